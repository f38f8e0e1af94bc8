import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from rasterio.transform import from_origin
from rasterio.warp import transform
from rsfm import cli, model_file, runs
from rsfm.change import detect_change
from rsfm.errors import Cancelled, UserError
from rsfm.jobs.detect_change import DetectChangeConfig
from rsfm.model_file import Card
from rsfm.raster import pair as pair_module
from rsfm.raster.grid import Grid
from rsfm.raster.statistics import Statistics
from scipy import ndimage
from skimage.measure import label
from sklearn.metrics import f1_score, roc_auc_score

FIELD = slice(40, 64), slice(70, 100)


class Made(NamedTuple):
    result: dict[str, Any]
    events: list[dict[str, Any]]
    outputs: Path

    def read(self, name: str) -> np.ndarray:
        with rasterio.open(self.outputs / name) as dataset:
            return np.asarray(dataset.read(1))

    def of(self, type: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["type"] == type]


@pytest.fixture
def compare(tmp_path: Path) -> Callable[..., Made]:
    def run_it(before: Path, after: Path, control: str = "", **values: Any) -> Made:
        folder = runs.create(tmp_path / "runs", "detect_change", "test", {})
        if control:
            runs.request_end(folder, control)  # type: ignore[arg-type]
        config = DetectChangeConfig(before=str(before), after=str(after), **values)
        result = detect_change(config, runs.Run(folder))
        json.dumps(result, allow_nan=False)
        lines = (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()
        return Made(result, [json.loads(line) for line in lines], folder / "outputs")

    return run_it


def landscape(bands: int = 3, height: int = 120, width: int = 150, seed: int = 0) -> np.ndarray:
    """Draw patches and texture, 40 to 200 grey levels, with some noise in every band."""
    random = np.random.default_rng(seed)
    fields = ndimage.gaussian_filter(random.normal(size=(bands, height, width)), (0, 4, 4))
    fields = fields / fields.std() * 30 + 110 + random.normal(size=fields.shape) * 2
    return np.clip(fields, 1, 255).astype(np.float32)


def changed(before_CHW: np.ndarray) -> np.ndarray:
    """Add noise everywhere, and another cover to FIELD and to half of the scene's left edge."""
    random = np.random.default_rng(9)
    after_CHW = before_CHW + random.normal(size=before_CHW.shape) * 2
    after_CHW[:, FIELD[0], FIELD[1]] = 230 - after_CHW[:, FIELD[0], FIELD[1]]
    after_CHW[0, 60:, :40] += 80
    return np.clip(after_CHW, 1, 255).astype(np.float32)


@pytest.fixture
def changed_pair(make_raster: Callable[..., Path]) -> tuple[Path, Path]:
    before_CHW = landscape()
    return make_raster(before_CHW, "before.tif"), make_raster(changed(before_CHW), "after.tif")


def test_what_changed_is_outlined_and_the_rest_is_not(
    changed_pair: tuple[Path, Path], compare: Callable[..., Made]
) -> None:
    made = compare(*changed_pair)
    change_HW = made.read("change.tif")
    assert change_HW[FIELD].mean() > 0.9
    truth_HW = np.zeros(change_HW.shape, bool)
    truth_HW[FIELD] = truth_HW[60:, :40] = True
    assert f1_score(truth_HW.ravel(), change_HW.ravel() == 1) > 0.9
    assert made.result["gate"]["verdict"] == "differences"
    assert made.result["method"] == "ir_mad"


def test_polygons_are_the_objects_of_the_map_with_their_mean_magnitude_area_and_rank(
    changed_pair: tuple[Path, Path], compare: Callable[..., Made]
) -> None:
    made = compare(*changed_pair)
    magnitude_HW, change_HW = made.read("magnitude.tif"), made.read("change.tif")
    labels_HW = label(change_HW == 1, connectivity=1)
    expected = sorted(float(magnitude_HW[labels_HW == number].mean()) for number in range(1, labels_HW.max() + 1))
    meta, _, geometry, fields = pyogrio.raw.read(made.outputs / "change.gpkg")
    table = dict(zip(meta["fields"], fields, strict=True))
    assert len(geometry) == made.result["polygons"] == len(expected) >= 2
    by_rank = np.argsort(table["rank"])
    assert table["mean_magnitude"][by_rank][::-1] == pytest.approx(expected, rel=1e-5)
    assert table["area_m2"].sum() == pytest.approx(made.result["area_changed_m2"], rel=1e-9)
    assert table["area_m2"].sum() == pytest.approx((change_HW == 1).sum() * 100, rel=2e-3)  # the zone's scale
    assert rasterio.CRS.from_user_input(meta["crs"]).to_epsg() == 32633


@pytest.mark.parametrize("method", ["ir_mad", "difference", "rank_average", "robust_cva"])
def test_swapping_the_dates_keeps_the_magnitude(
    method: str, changed_pair: tuple[Path, Path], compare: Callable[..., Made]
) -> None:
    one, other = compare(*changed_pair, method=method), compare(*changed_pair[::-1], method=method)
    np.testing.assert_array_equal(one.read("magnitude.tif"), other.read("magnitude.tif"))
    np.testing.assert_array_equal(one.read("change.tif"), other.read("change.tif"))


@pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:32634"])
def test_the_magnitude_of_an_area_is_the_crop_of_the_magnitude_of_the_whole(
    crs: str, make_raster: Callable[..., Path], compare: Callable[..., Made]
) -> None:
    before_CHW = landscape()
    (west,), (north,) = transform("EPSG:32633", crs, [500003], [5100004])
    place = from_origin(west, north, 10, 10)
    after = make_raster(changed(before_CHW), "after.tif", crs=crs, transform=place)
    before = make_raster(before_CHW, "before.tif")
    whole = compare(before, after)
    part = compare(before, after, area="500300,5099200,500900,5099700")
    np.testing.assert_array_equal(part.read("magnitude.tif"), whole.read("magnitude.tif")[30:80, 30:90])
    assert part.result["threshold"] == whole.result["threshold"]
    assert np.isfinite(part.read("magnitude.tif")).mean() > 0.5


def test_the_height_of_strips_changes_nothing(
    changed_pair: tuple[Path, Path], compare: Callable[..., Made], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for rows in (1000, 13, 1):
        monkeypatch.setattr(pair_module, "STRIP_BYTES", rows * 4 * 3 * 150)
        found.append(compare(*changed_pair))
    for other in found[1:]:
        assert other.result.pop("area_changed_m2") == pytest.approx(found[0].result["area_changed_m2"], rel=1e-12)
        assert other.result.items() <= found[0].result.items()
        for name in ("magnitude.tif", "change.tif"):
            np.testing.assert_array_equal(other.read(name), found[0].read(name))
        assert outlines(other) == outlines(found[0])


def outlines(made: Made) -> set[str]:
    _, _, geometry, _ = pyogrio.raw.read(made.outputs / "change.gpkg")
    return {shapely.to_wkt(shapely.normalize(shapely.simplify(found, 0))) for found in shapely.from_wkb(geometry)}


def test_nodata_of_either_date_stays_nodata(make_raster: Callable[..., Path], compare: Callable[..., Made]) -> None:
    before_CHW = landscape()
    after_CHW = changed(before_CHW)
    before_CHW[0, 10:20, 10:20] = after_CHW[1, 30:35, 120:130] = -9999  # in one band alone
    before = make_raster(before_CHW, "before.tif", nodata=-9999)
    made = compare(before, make_raster(after_CHW, "after.tif", nodata=-9999))
    missing_HW = (before_CHW == -9999).any(0) | (after_CHW == -9999).any(0)
    np.testing.assert_array_equal(np.isnan(made.read("magnitude.tif")), missing_HW)
    np.testing.assert_array_equal(made.read("change.tif") == 255, missing_HW)
    ring_HW = ndimage.binary_dilation(missing_HW, iterations=4) & ~missing_HW
    magnitude_HW = made.read("magnitude.tif")
    assert magnitude_HW[ring_HW].max() < np.median(magnitude_HW[FIELD]), "the marker -9999 came into the magnitude"


def test_degrees_give_square_metres(make_raster: Callable[..., Path], compare: Callable[..., Made]) -> None:
    before_CHW = landscape()
    place = {"crs": "EPSG:4326", "transform": from_origin(-74.7, -8.3, 0.0008, 0.0008)}
    made = compare(
        make_raster(before_CHW, "before.tif", **place), make_raster(changed(before_CHW), "after.tif", **place)
    )
    pixel = Grid(rasterio.CRS.from_epsg(4326), from_origin(-74.7, -8.3, 0.0008, 0.0008), 120, 150).pixel_area
    pixels = (made.read("change.tif") == 1).sum()
    assert made.result["area_changed_m2"] == pytest.approx(pixels * pixel, rel=1e-3)
    assert 85**2 < pixel < 92**2


def test_small_changes_are_left_out_by_the_minimum_area(
    make_raster: Callable[..., Path], compare: Callable[..., Made]
) -> None:
    before_CHW = landscape()
    after_CHW = changed(before_CHW)
    after_CHW[:, 5:11, 130:136] = 230 - after_CHW[:, 5:11, 130:136]  # 36 pixels of 100 m2
    paths = make_raster(before_CHW, "before.tif"), make_raster(after_CHW, "after.tif")
    place = slice(6, 10), slice(131, 135)
    assert compare(*paths, method="difference").read("change.tif")[place].max() == 0
    assert compare(*paths, method="difference", minimum_area=1000).read("change.tif")[place].min() == 1
    made = compare(*paths, method="difference", minimum_area=100_000)
    assert pyogrio.raw.read(made.outputs / "change.gpkg")[3][2].min() >= 100_000


def test_without_the_automatic_threshold_the_share_asked_for_is_outlined(
    changed_pair: tuple[Path, Path], compare: Callable[..., Made]
) -> None:
    made = compare(*changed_pair, automatic=False, show=20, minimum_area=1)
    assert made.result["share_changed"] == pytest.approx(0.2, abs=0.001)
    assert "20 %" in made.result["sentence"]


def test_dates_without_anything_in_common_are_compared_plainly_and_it_is_said(
    make_raster: Callable[..., Path], compare: Callable[..., Made]
) -> None:
    made = compare(make_raster(landscape(), "before.tif"), make_raster(landscape(seed=5), "after.tif"))
    assert made.result["method"] == "difference"
    assert max(made.result["correlations"]) < 0.15
    assert "Almost everything differs" in made.of("warning")[0]["text"]


@pytest.mark.parametrize(
    ("after_bands", "origin", "said", "field"),
    [
        (2, (500000, 5100000), "3 bands and 'after.tif' has 2", "after"),
        (3, (512000, 5100000), "do not overlap: about 10.5 km lies between them", "after"),
        (3, (500000, 5099980 - 1200), "do not overlap: about 20 m lies between them", "after"),
    ],
)
def test_pairs_that_cannot_be_compared_are_refused_with_the_reason(
    after_bands: int,
    origin: tuple[float, float],
    said: str,
    field: str,
    make_raster: Callable[..., Path],
    compare: Callable[..., Made],
) -> None:
    before = make_raster(landscape(), "before.tif")
    after = make_raster(landscape(after_bands), "after.tif", transform=from_origin(*origin, 10, 10))
    with pytest.raises(UserError, match=said) as caught:
        compare(before, after)
    assert caught.value.field == field


def test_dates_without_a_valid_pixel_in_common_and_areas_outside_the_overlap_are_refused(
    make_raster: Callable[..., Path], compare: Callable[..., Made], tmp_path: Path
) -> None:
    before_CHW, after_CHW = landscape(), landscape()
    before_CHW[:, :60], after_CHW[:, 60:] = 0, 0
    before = make_raster(before_CHW, "before.tif", nodata=0)
    with pytest.raises(UserError, match="have no pixel that is valid on both dates"):
        compare(before, make_raster(after_CHW, "after.tif", nodata=0))
    shifted = make_raster(landscape(), "shifted.tif", transform=from_origin(500500, 5100000, 10, 10))
    with pytest.raises(UserError, match="outside the part that the two rasters share") as caught:
        compare(before, shifted, area="500000,5099000,500300,5099300")
    assert caught.value.field == "area"
    with pytest.raises(UserError, match="No pixel of the area is valid"):
        compare(before, shifted, area="500500,5099700,500700,5099900")
    assert not [file for run in (tmp_path / "runs").iterdir() for file in (run / "outputs").iterdir()]


def test_cancelling_ends_at_the_first_strip(changed_pair: tuple[Path, Path], compare: Callable[..., Made]) -> None:
    with pytest.raises(Cancelled):
        compare(*changed_pair, control="cancel")


PAIRS = {
    "naip 2009-2012": ("naip_dakota", "naip_west_20090818", "naip_west_20120731", "20090818_20120731", 0.93, 0.55, 0),
    "naip 2009-2020": ("naip_dakota", "naip_west_20090818", "naip_west_20200831", "20090818_20200831", 0.93, 0.65, 0),
    "naip 2018-2020": ("naip_dakota", "naip_west_20180716", "naip_west_20200831", "20180716_20200831", 0.90, 0.20, 0),
    "ucayali 1985-2000": (
        "landsat_ucayali",
        "landsat_ucayali_west_1985",
        "landsat_ucayali_west_2000",
        "1985_2000",
        0.95,
        0.60,
        0.97,
    ),
    "ucayali 2000-2020": (
        "landsat_ucayali",
        "landsat_ucayali_west_2000",
        "landsat_ucayali_west_2020",
        "2000_2020",
        0.95,
        0.60,
        0.97,
    ),
    "ucayali 1985-2020": (
        "landsat_ucayali",
        "landsat_ucayali_west_1985",
        "landsat_ucayali_west_2020",
        "1985_2020",
        0.95,
        0.60,
        0.97,
    ),
    "demo": ("demo_bundle", "pair_before_20090818", "pair_after_20200831", "", 0.90, 0.65, 0),
}


@pytest.mark.parametrize("pair", PAIRS)
def test_real_change_of_water_is_found_as_well_as_was_measured(
    pair: str, data: Path, compare: Callable[..., Made]
) -> None:
    folder, before, after, dates, auc, f1, plain_auc = PAIRS[pair]
    mask = f"change_water_west_{dates}.tif" if dates else "pair_change_mask.tif"
    with rasterio.open(data / folder / mask) as dataset:
        truth_HW = dataset.read(1) == 1
    paths = data / folder / f"{before}.tif", data / folder / f"{after}.tif"
    made = compare(*paths)
    magnitude_HW, change_HW = made.read("magnitude.tif"), made.read("change.tif")
    valid_HW = np.isfinite(magnitude_HW)
    assert valid_HW.mean() > 0.97
    assert roc_auc_score(truth_HW[valid_HW], magnitude_HW[valid_HW]) >= auc
    assert f1_score(truth_HW[valid_HW], change_HW[valid_HW] == 1) >= f1
    assert made.result["gate"]["verdict"] == "differences"
    assert made.result["gate"]["share"] > 0.12
    if plain_auc:
        plain_HW = compare(*paths, method="difference").read("magnitude.tif")
        assert roc_auc_score(truth_HW[valid_HW], plain_HW[valid_HW]) >= plain_auc


def test_the_encoder_of_a_model_makes_the_second_layer_on_a_shifted_grid(
    make_raster: Callable[..., Path], compare: Callable[..., Made], tmp_path: Path
) -> None:
    before_CHW = landscape(height=160, width=160)
    before = make_raster(before_CHW, "before.tif")
    after = make_raster(changed(before_CHW), "after.tif", transform=from_origin(500003, 5100004, 10, 10))
    file = tmp_path / "pretrain.json"
    file.write_text(json.dumps({"rasters": [str(before)], "training": {"minutes": 0.02, "batch_size": 16}}))
    assert cli.main(["run", "pretrain", str(file), "--run", str(tmp_path / "encoder")]) == 0
    model = str(tmp_path / "encoder" / "outputs" / "encoder.safetensors")
    made = compare(before, after, model=model, device="cpu")
    assert not any("all dates" in event["text"] for event in made.of("warning"))
    found_HW = made.read("embedding_difference.tif")
    cells = 160 // found_HW.shape[0]
    changed_HW = found_HW[40 // cells + 2 : 64 // cells - 2, 70 // cells + 2 : 100 // cells - 2]
    assert np.median(changed_HW) > 1.5 * np.nanmedian(found_HW)
    assert not list((made.outputs.parent / "checkpoints").iterdir())
    with pytest.raises(UserError, match="trained on 3 bands and the rasters have 2") as caught:
        compare(make_raster(before_CHW[:2], "two.tif"), make_raster(before_CHW[:2], "two_after.tif"), model=model)
    assert caught.value.field == "model"


@pytest.mark.parametrize(("method", "title"), [("gassl", "GASSL"), ("seco", "SeCo")])
def test_gassl_G10_change_by_an_encoder_that_was_taught_to_see_none_is_warned_of(
    method: str, title: str, make_raster: Callable[..., Path], compare: Callable[..., Made], tmp_path: Path
) -> None:
    config = {"name": "conv_small", "width": 32}
    statistics = Statistics(mean=(110,) * 3, std=(30,) * 3, low=(0,) * 3, high=(255,) * 3, count=(9,) * 3)
    card = Card(bands=3, statistics=statistics, gsd=10, encoder=config, method={"name": method})
    path = tmp_path / "model.safetensors"
    model_file.save(path, card, model_file.parts(encoder=model_file.build_encoder(config, 3)))
    before_CHW = landscape()
    before, after = make_raster(before_CHW, "before.tif"), make_raster(changed(before_CHW), "after.tif")
    made = compare(before, after, model=str(path), device="cpu")
    said = [event["text"] for event in made.of("warning") if "all dates" in event["text"]]
    assert len(said) == 1
    assert said[0].startswith(title)
