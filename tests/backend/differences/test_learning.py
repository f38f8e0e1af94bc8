"""Features, regression and shares, beside slow obvious versions; drawn areas; figures on real pairs."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from rsfm.differences.fitting import fit, learn, likeness
from rsfm.differences.marks import CLICK, Mark, read_marks
from rsfm.differences.planes import open_scene
from rsfm.differences.shares import ALL_PERCENTS, PERCENTS, MagnitudeCounter, ShareCounter, shown
from rsfm.jobs.refine_change import RefineChangeConfig
from rsfm.raster.grid import Window
from scipy import ndimage
from scipy.ndimage import binary_erosion, gaussian_filter
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, roc_auc_score

from tests.backend.differences.conftest import NOT_THIS, THIS, as_they_are, changed, landscape, point

CLICKS = 5


def robust(pixels_CHW: np.ndarray) -> np.ndarray:
    low, centre, high = np.percentile(pixels_CHW.reshape(len(pixels_CHW), -1), [2, 50, 98], axis=1)
    return np.asarray((pixels_CHW - centre[:, None, None]) / ((high - low) / 2)[:, None, None])


def test_features_are_those_of_the_specification(pair):
    before_CHW = landscape()
    a_CHW, b_CHW = robust(before_CHW), robust(changed(before_CHW))
    d_CHW = b_CHW - a_CHW
    smooth = [gaussian_filter(each, (0, 2, 2)) for each in (d_CHW, a_CHW, b_CHW)]
    expected = np.concatenate([np.abs(d_CHW), d_CHW, a_CHW, b_CHW, *smooth])[:, 20:40, 30:70]
    with open_scene(as_they_are(*pair)) as scene:
        planes = scene.read(Window(20, 30, 20, 40))
        found_NF = planes.features(np.ones((20, 40), bool))
    np.testing.assert_allclose(found_NF.T.reshape(-1, 20, 40), expected, atol=2e-4)


@pytest.mark.parametrize("kinds", [1, 3])
def test_likeness_is_what_the_regression_says(kinds, pair):
    random = np.random.default_rng(kinds)
    with open_scene(as_they_are(*pair)) as scene:
        planes = scene.read(Window(0, 0, 120, 150))
    features_NF = planes.features(planes.valid_HW)
    chosen = random.choice(len(features_NF), 200, replace=False)
    classes = np.digitize(
        features_NF[chosen, 0], np.quantile(features_NF[chosen, 0], np.arange(1, kinds + 1) / (kinds + 1))
    )
    weights = fit(features_NF[chosen], classes, np.ones(200))
    model = LogisticRegression(C=1, class_weight="balanced", max_iter=5000, tol=1e-6)
    model.fit(features_NF[chosen], classes)
    expected_NK = model.predict_proba(features_NF)
    found_N = likeness(planes, weights).ravel()
    np.testing.assert_allclose(found_N - np.floor(found_N), 1 - expected_NK[:, 0], atol=2e-4)
    sure_N = np.sort(expected_NK[:, 1:], axis=1)[:, -1] > np.sort(expected_NK[:, 1:], axis=1)[:, -min(2, kinds)] + 1e-3
    sure_N |= kinds == 1
    np.testing.assert_array_equal(np.floor(found_N)[sure_N], expected_NK[:, 1:].argmax(axis=1)[sure_N])


def test_a_smaller_class_counts_as_much_as_a_larger_one():
    random = np.random.default_rng(0)
    features = np.concatenate([random.normal(-1, 1, (900, 1)), random.normal(1, 1, (30, 1))])
    classes = np.repeat([0, 1], [900, 30])
    weights = fit(features, classes, np.ones(930))
    assert expit(weights.intercepts_K[0]) == pytest.approx(0.5, abs=0.15)  # half way between the two


def test_shares_are_those_of_the_area_whatever_the_order():
    random = np.random.default_rng(1)
    code_HW = (expit(random.normal(size=(200, 300)) * 4) + random.integers(0, 3, (200, 300))).astype(np.float32)
    code_HW[:20] = np.nan
    one, other = ShareCounter(), ShareCounter()
    one.add(code_HW)
    for row in reversed(range(0, 200, 7)):
        other.add(code_HW[row : row + 7])
    assert one.cuts() == other.cuts()
    for percent, cut in list(zip(PERCENTS, one.cuts()))[4::50]:
        share = (shown(code_HW, cut) > 0).sum() / one.valid
        assert share <= percent / 100 + 1e-9
        assert share == pytest.approx(percent / 100, abs=0.001)


@pytest.mark.parametrize("scale", [1e-6, 1, 1e9])
def test_shares_of_a_magnitude_are_those_of_the_area_whatever_its_unit(scale):
    random = np.random.default_rng(2)
    magnitude_N = (random.gamma(2, 3, 200_000) * scale).astype(np.float32)
    one, other = MagnitudeCounter(), MagnitudeCounter()
    one.add(magnitude_N)
    for part_N in np.array_split(magnitude_N[::-1], 7):
        other.add(part_N)
    assert one.cuts() == other.cuts()
    for percent, cut in zip(ALL_PERCENTS, one.cuts()):
        assert percent / 100 - 0.0002 <= (magnitude_N > np.float32(cut)).mean() <= percent / 100 + 1e-9


def test_cut_of_a_magnitude_of_few_values_shows_no_more_than_asked_for():
    counter, magnitude_N = MagnitudeCounter(), np.repeat(np.float32([-0.0, 0, 2, 5]), [40, 10, 30, 20])
    counter.add(magnitude_N)
    shown = [(magnitude_N > np.float32(cut)).mean() for cut in counter.cuts()]
    assert [shown[percent * 10 - 1] for percent in (19, 20, 49, 50, 100)] == [0, 0.2, 0.2, 0.5, 0.5]
    assert MagnitudeCounter().cuts()[0] >= 0


def test_drawn_areas_give_their_pixels_evenly_and_count_as_ten_clicks_at_most(pair, mark, click):
    inside = shapely.box(500700, 5099400, 500990, 5099590)
    huge, tiny = shapely.box(500000, 5098800, 501500, 5100000), point(10, 10).buffer(2)
    areas = mark({"mine": [inside, tiny], "not this": [huge]}, name="areas.gpkg")
    config = RefineChangeConfig(before=str(pair[0]), after=str(pair[1]), areas=areas, clicks=click({"mine": THIS}))
    with open_scene(as_they_are(*pair)) as scene:
        marks = read_marks(config, scene.pair.before.grid).marks
    by_area = {mark.key[1]: mark for mark in marks}
    assert len(by_area) == 7
    ((window, inside_HW),) = max(marks, key=lambda each: each.pieces[0][1].size if each.kind == 1 else 0).pieces
    assert (window.row, window.column) == (41, 70)
    assert 100 <= inside_HW.sum() <= 400
    rest = next(each for each in marks if each.kind == 0)
    assert rest.weight == 10 * CLICK
    assert rest.pieces[0][1].sum() <= 400
    small = [each for each in marks if each.kind == 1 and each.weight == CLICK]
    assert len(small) == 5


def test_a_very_large_area_is_read_at_single_pixels(make_raster, mark, click):
    before = make_raster(np.zeros((1, 1200, 1200), "uint8"), "before.tif")
    whole = shapely.box(500000, 5088000, 512000, 5100000)
    config = RefineChangeConfig(
        before=str(before),
        after=str(before),
        areas=mark({"not this": [whole]}),
        clicks=click({"a": THIS}, name="c.gpkg"),
    )
    with rasterio.open(before) as file:
        from rsfm.raster.grid import Grid

        marks = read_marks(config, Grid(file.crs, file.transform, 1200, 1200)).marks
    rest = next(each for each in marks if each.kind == 0)
    assert {(window.height, window.width) for window, _ in rest.pieces} == {(1, 1)}
    assert len(rest.pieces) == 400


def test_removing_a_mark_is_as_if_it_had_never_been(pair, click):
    places = {"mine": THIS, "not this": NOT_THIS}
    config = {"before": str(pair[0]), "after": str(pair[1])}
    with open_scene(as_they_are(*pair)) as scene:
        grid = scene.pair.before.grid
        known = {}
        few = read_marks(RefineChangeConfig(**config, clicks=click(places)), grid).marks
        first = learn(scene, few, known)
        more = read_marks(RefineChangeConfig(**config, clicks=click({**places, "mine": (*THIS, (80, 20))})), grid).marks
        second = learn(scene, more, known)
        again = learn(scene, few, known)
    assert not np.array_equal(first.coefficients_KF, second.coefficients_KF)
    np.testing.assert_array_equal(first.coefficients_KF, again.coefficients_KF)


PAIRS = {
    "guianas": ("alert_pair_guianas/before.tif", "alert_pair_guianas/after.tif", "alert_pair_guianas/mask.tif", 0.95),
    **{
        f"ucayali {first} {second}": (
            f"landsat_ucayali/landsat_ucayali_west_{first}.tif",
            f"landsat_ucayali/landsat_ucayali_west_{second}.tif",
            f"landsat_ucayali/change_water_west_{first}_{second}.tif",
            0.95,
        )
        for first, second in ((1985, 2000), (2000, 2020), (1985, 2020))
    },
    **{
        f"naip {first} {second}": (
            f"naip_dakota/naip_west_{first}.tif",
            f"naip_dakota/naip_west_{second}.tif",
            f"naip_dakota/change_water_west_{first}_{second}.tif",
            0.90,
        )
        for first, second in ((20180716, 20200831), (20090818, 20120731), (20090818, 20200831))
    },
}


@pytest.mark.parametrize("name", PAIRS)
def test_five_and_five_clicks_reach_the_figures_of_the_specification(name: str, data: Path) -> None:
    """Mean of ten seeds, clicks inside true objects: specs/change.md, section 8."""
    before, after, mask, auc_bound = PAIRS[name]
    with rasterio.open(data / mask) as file:
        mask_HW = file.read(1)
    aucs, f1s = [], []
    with open_scene(as_they_are(data / before, data / after)) as scene:
        window = scene.pair.before.grid.window
        planes = scene.read(window)
        truth_HW, valid_HW = mask_HW == 1, planes.valid_HW & (mask_HW <= 1)
        for seed in range(10):
            marks = simulate(truth_HW, valid_HW, seed)
            likeness_HW = likeness(planes, learn(scene, marks, {}))
            aucs.append(roc_auc_score(truth_HW[valid_HW], likeness_HW[valid_HW]))
            f1s.append(f1_score(truth_HW[valid_HW], likeness_HW[valid_HW] > 0.5))
    print(f"{name}: AUC {np.mean(aucs):.3f} ({min(aucs):.2f} to {max(aucs):.2f}), F1 at 0.5 {np.mean(f1s):.2f}")
    assert np.mean(aucs) >= auc_bound
    if name.startswith("ucayali"):
        assert np.mean(f1s) >= 0.50


def simulate(truth_HW: np.ndarray, valid_HW: np.ndarray, seed: int) -> list[Mark]:
    """Click into five true objects, large ones likelier, and five times elsewhere, each with all pixels around it."""
    random = np.random.default_rng(seed)
    inside_HW, outside_HW = (binary_erosion(here_HW & valid_HW, np.ones((3, 3))) for here_HW in (truth_HW, ~truth_HW))
    objects_HW, count = ndimage.label(inside_HW)
    size_N = np.bincount(objects_HW.ravel())[1:]
    chosen = random.choice(count, min(CLICKS, count), replace=False, p=size_N / size_N.sum()) + 1
    places = [(1, random.choice(np.argwhere(objects_HW == chosen[click % len(chosen)]))) for click in range(CLICKS)]
    places += [(0, place) for place in random.choice(np.argwhere(outside_HW), CLICKS, replace=False)]
    pieces = [(Window(int(row) - 1, int(column) - 1, 3, 3), np.ones((3, 3), bool)) for _, (row, column) in places]
    return [Mark(kind, (piece,), CLICK, (piece[0],)) for (kind, _), piece in zip(places, pieces, strict=True)]
