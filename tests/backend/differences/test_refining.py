"""The change that somebody means, mapped over a whole raster."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import shapely
from rasterio.transform import from_origin
from rasterio.warp import transform
from rsfm import runs
from rsfm.differences import refining
from rsfm.differences.refining import refine_change
from rsfm.errors import Cancelled, UserError
from rsfm.jobs.refine_change import RefineChangeConfig
from rsfm.raster import pair as pair_module
from skimage.measure import label
from sklearn.metrics import roc_auc_score

from tests.backend.differences.conftest import HARVEST, MINE, NOT_THIS, THIS, Made, changed, landscape

CLICKS = {"mine": THIS, "not this": NOT_THIS}
KINDS = {"mine": THIS, "harvest": ((80, 20), (100, 10), (65, 35)), "not this": NOT_THIS[:4]}


def test_what_was_marked_is_shown_and_a_stronger_change_that_was_not_meant_is_not(pair, click, refine):
    made = refine(*pair, clicks=click(CLICKS), show=4)
    truth_HW = np.zeros((120, 150), bool)
    truth_HW[MINE] = True
    likeness_HW = made.read("likeness.tif")
    assert roc_auc_score(truth_HW.ravel(), likeness_HW.ravel()) > 0.999
    change_HW = made.read("change.tif")
    assert (change_HW[MINE] == 1).mean() > 0.95
    assert (change_HW[HARVEST] == 1).mean() < 0.01
    assert made.result["marks"] == {"not_meant": 6, "mine": 4}
    assert "4 places of what you mean and 6 of what you do not" in made.result["sentence"]


def test_several_kinds_are_told_apart_and_have_their_own_polygons_and_colours(pair, click, refine):
    made = refine(*pair, clicks=click(KINDS, colours={"mine": "#112233", "harvest": "#445566"}), show=15)
    change_HW, likeness_HW = made.read("change.tif"), made.read("likeness.tif")
    assert (change_HW[MINE] == 1).mean() > 0.95
    assert (change_HW[HARVEST] == 2).mean() > 0.9
    assert ((change_HW > 0) == (change_HW == np.floor(likeness_HW) + 1)).all()
    style = next(event["style"] for event in made.of("output") if event["kind"] == "change")
    assert [(each["value"], each["name"], each["colour"]) for each in style["classes"]] == [
        (1, "mine", "#112233"),
        (2, "harvest", "#445566"),
    ]
    meta, _, geometry, fields = pyogrio.raw.read(made.outputs / "change.gpkg")
    table = dict(zip(meta["fields"], fields, strict=True))
    assert set(table["kind"]) == {"mine", "harvest"}
    assert len(geometry) == made.result["polygons"]
    for kind, area in made.result["area_of_kinds_m2"].items():
        assert table["area_m2"][table["kind"] == kind].sum() == pytest.approx(area)
    shown = json.loads((made.outputs.parent / "shown" / "changes.json").read_text(encoding="utf-8"))
    assert [place["fields"]["area_m2"] for place in shown["places"]] == sorted(table["area_m2"], reverse=True)[:20]
    assert {place["fields"]["kind"] for place in shown["places"]} == {"mine", "harvest"}
    assert shown["value"] == "mean_likeness"


def test_where_no_place_is_large_enough_the_report_says_which_control_to_use(pair, click, refine):
    made = refine(*pair, clicks=click(CLICKS), show=4, minimum_area=1e6)
    shown = json.loads((made.outputs.parent / "shown" / "changes.json").read_text(encoding="utf-8"))
    assert "of the 4 % of the area most like your marks no place is as large as 1 km²" in shown["why_none"]
    assert "'Show the top'" in shown["why_none"]


def test_polygons_are_the_objects_of_the_map_with_their_mean_likeness_and_area(pair, click, refine):
    made = refine(*pair, clicks=click(CLICKS), show=30, minimum_area=1)
    change_HW, likeness_HW = made.read("change.tif"), made.read("likeness.tif")
    labels_HW = label(change_HW == 1, connectivity=1)
    expected = sorted(float(likeness_HW[labels_HW == number].mean()) for number in range(1, labels_HW.max() + 1))
    meta, _, _, fields = pyogrio.raw.read(made.outputs / "change.gpkg")
    table = dict(zip(meta["fields"], fields, strict=True))
    assert len(expected) > 5
    assert sorted(table["mean_likeness"]) == pytest.approx(expected, rel=1e-5)
    assert table["area_m2"][np.argsort(table["rank"])][0] == table["area_m2"].max()
    assert table["area_m2"].sum() == pytest.approx((change_HW == 1).sum() * 100, rel=2e-3)


@pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:32634"])
def test_the_likeness_of_an_area_is_the_crop_of_that_of_the_whole(crs, make_raster, click, refine):
    before_CHW = landscape()
    (west,), (north,) = transform("EPSG:32633", crs, [500003], [5100004])
    after = make_raster(changed(before_CHW), "after.tif", crs=crs, transform=from_origin(west, north, 10, 10))
    before, clicks = make_raster(before_CHW, "before.tif"), click(KINDS)
    whole = refine(before, after, clicks=clicks)
    part = refine(before, after, clicks=clicks, area="500300,5099200,500900,5099700")
    np.testing.assert_array_equal(part.read("likeness.tif"), whole.read("likeness.tif")[30:80, 30:90])
    assert np.isfinite(part.read("likeness.tif")).mean() > 0.5


def test_the_height_of_strips_changes_nothing(pair, click, refine, monkeypatch):
    found = []
    for rows in (1000, 13, 1):
        monkeypatch.setattr(pair_module, "STRIP_BYTES", rows * 4 * 3 * 150)
        monkeypatch.setattr(refining, "LOOKED_AT", max(rows // 2, 1) * 150)
        found.append(refine(*pair, clicks=click(KINDS), show=30))
    for other in found[1:]:
        for name in ("likeness.tif", "change.tif"):
            np.testing.assert_array_equal(other.read(name), found[0].read(name))
        assert outlines(other) == outlines(found[0])
        assert other.result["cut"] == found[0].result["cut"]


def outlines(made: Made) -> set[str]:
    _, _, geometry, _ = pyogrio.raw.read(made.outputs / "change.gpkg")
    return {shapely.to_wkt(shapely.normalize(shapely.simplify(found, 0))) for found in shapely.from_wkb(geometry)}


def test_nodata_of_either_date_stays_nodata_and_changes_nothing_far_away(make_raster, click, refine):
    before_CHW = landscape()
    after_CHW = changed(before_CHW)
    plain = refine(make_raster(before_CHW, "a.tif"), make_raster(after_CHW, "b.tif"), clicks=click(CLICKS))
    before_CHW[0, 10:14, 30:34] = after_CHW[1, 5:8, 120:124] = -9999
    before = make_raster(before_CHW, "before.tif", nodata=-9999)
    made = refine(before, make_raster(after_CHW, "after.tif", nodata=-9999), clicks=click(CLICKS))
    missing_HW = (before_CHW == -9999).any(0) | (after_CHW == -9999).any(0)
    np.testing.assert_array_equal(np.isnan(made.read("likeness.tif")), missing_HW)
    np.testing.assert_array_equal(made.read("change.tif") == 255, missing_HW)
    np.testing.assert_allclose(made.read("likeness.tif")[30:], plain.read("likeness.tif")[30:], atol=0.02)


def test_gain_and_offset_of_a_date_change_nothing(make_raster, click, refine):
    before_CHW = landscape()
    before, clicks = make_raster(before_CHW, "before.tif"), click(CLICKS)
    after_CHW = changed(before_CHW)
    plain = refine(before, make_raster(after_CHW, "after.tif"), clicks=clicks).read("likeness.tif")
    other = refine(before, make_raster(after_CHW * 37 + 500, "other.tif"), clicks=clicks).read("likeness.tif")
    np.testing.assert_allclose(other, plain, atol=1e-3)


def test_the_share_asked_for_is_shown(pair, click, refine):
    made = refine(*pair, clicks=click(CLICKS), show=20, minimum_area=1)
    assert made.result["share_changed"] == pytest.approx(0.2, abs=0.005)
    style = next(event["style"] for event in made.of("output") if event["kind"] == "likeness")
    assert len(style["cuts"]) == 500
    likeness_HW = made.read("likeness.tif")
    for percent in (1, 10, 50):
        assert (likeness_HW > style["cuts"][percent * 10 - 1]).mean() == pytest.approx(percent / 100, abs=0.005)


@pytest.mark.parametrize(
    ("places", "said"),
    [
        ({"mine": THIS[:2], "not this": NOT_THIS}, "'not this' has 6, 'mine' has 2"),
        ({"mine": THIS, "not this": NOT_THIS[:1]}, "'not this' has 1, 'mine' has 4"),
        ({"mine": THIS}, "'not this' has 0"),
        ({"not this": NOT_THIS}, "'this' has 0"),
    ],
)
def test_too_few_places_are_refused_with_how_many_there_are(places, said, pair, click, refine):
    with pytest.raises(UserError, match=said) as caught:
        refine(*pair, clicks=click(places))
    assert caught.value.field == "clicks"


def test_marks_outside_are_told_of_and_left_out(pair, click, refine):
    made = refine(*pair, clicks=click({**CLICKS, "mine": (*THIS, (500, 500))}))
    assert made.result["marks"]["mine"] == 4
    assert any("1 of 11 marks lie outside" in event["text"] for event in made.of("warning"))


def test_marks_where_a_date_is_invalid_are_refused(make_raster, click, refine):
    before_CHW = landscape()
    after_CHW = changed(before_CHW)
    after_CHW[:, MINE[0], MINE[1]] = 0
    pair = make_raster(before_CHW, "before.tif", nodata=0), make_raster(after_CHW, "after.tif", nodata=0)
    inside = ((45, 75), (50, 85), (55, 80))
    with pytest.raises(UserError, match="Every mark of what you mean lies where a date has no valid pixel"):
        refine(*pair, clicks=click({"mine": inside, "not this": NOT_THIS}))


def test_a_run_that_is_cancelled_leaves_no_file(pair, click, tmp_path: Path):
    folder = runs.create(tmp_path / "runs", "refine_change", "test", {})
    runs.request_end(folder, "cancel")
    config = RefineChangeConfig(before=str(pair[0]), after=str(pair[1]), clicks=click(CLICKS))
    with pytest.raises(Cancelled):
        refine_change(config, runs.Run(folder))
    assert not list((folder / "outputs").iterdir())


def test_an_encoder_is_used_and_its_area_is_the_crop_too(make_raster: Callable[..., Path], click, refine, tmp_path):
    from tests.backend.toy_model import make_model

    before_CHW = landscape()
    before, after = make_raster(before_CHW, "before.tif"), make_raster(changed(before_CHW), "after.tif")
    values = {"clicks": click(KINDS), "model": str(make_model(tmp_path / "model.safetensors", before)), "device": "cpu"}
    whole = refine(before, after, **values)
    part = refine(before, after, **values, area="500300,5099200,500900,5099700")
    np.testing.assert_array_equal(part.read("likeness.tif"), whole.read("likeness.tif")[30:80, 30:90])
    plain = refine(before, after, clicks=click(KINDS))
    assert np.abs(plain.read("likeness.tif") - whole.read("likeness.tif")).max() > 0.01
    assert (whole.read("change.tif")[MINE] == 1).mean() > 0.5
