"""What the check of a pair says, and what it writes when it is asked to mend."""

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
from rsfm import runs
from rsfm.change import detect_change
from rsfm.differences.checking import check_pair
from rsfm.errors import UserError
from rsfm.jobs.check_pair import CheckPairConfig
from rsfm.jobs.detect_change import DetectChangeConfig

from .test_shift import displaced, texture


class Checked(NamedTuple):
    result: dict[str, Any]
    events: list[dict[str, Any]]
    outputs: Path

    def of(self, topic: str) -> dict[str, Any]:
        found: dict[str, Any] = self.result["findings"][topic]
        return found


@pytest.fixture
def check(tmp_path: Path) -> Callable[..., Checked]:
    def run_it(before: Path, after: Path, **values: Any) -> Checked:
        folder = runs.create(tmp_path / "runs", "check_pair", "test", {})
        config = CheckPairConfig(before=str(before), after=str(after), **values)
        result = check_pair(config, runs.Run(folder))
        json.dumps(result, allow_nan=False)
        lines = (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()
        return Checked(result, [json.loads(line) for line in lines], folder / "outputs")

    return run_it


def changed(seed: int = 3) -> np.ndarray:
    pixels_CHW = texture() + np.random.default_rng(seed).normal(size=(3, 300, 280)).astype(np.float32) * 2
    pixels_CHW[:, 50:150, 60:200] = 250 - pixels_CHW[:, 50:150, 60:200]
    return np.asarray(pixels_CHW, np.float32)


def describe_bands(path: Path, names: list[str]) -> Path:
    with rasterio.open(path, "r+") as dataset:
        dataset.descriptions = names
    return path


def test_a_good_pair_is_well_but_for_what_nobody_can_know(
    make_raster: Callable[..., Path], check: Callable[..., Checked]
) -> None:
    names = ["green", "red", "nir"]
    before = describe_bands(make_raster(texture(), "field_20190718.tif"), names)
    after = describe_bands(make_raster(changed(), "field_20200716.tif"), names)
    made = check(before, after)
    states = {topic: finding["state"] for topic, finding in made.result["findings"].items()}
    assert states == {
        "CRS": "ok", "Overlap": "ok", "Pixel size": "ok", "Bands": "ok", "Data types": "ok", "Dates": "ok",
        "Season": "ok", "Nodata": "ok", "Clouds": "unknown", "Likeness": "ok", "Alignment": "ok", "Difference": "ok",
    }  # fmt: skip
    assert "not known: Clouds" in made.result["sentence"]
    assert made.result["gate"]["verdict"] == "differences"
    assert made.result["shift"]["verdict"] == "aligned"
    assert [event["kind"] for event in made.events if event["type"] == "output"] == ["shift_arrows"]


def test_bands_in_another_order_are_told_and_matched_by_name_when_asked(
    make_raster: Callable[..., Path], check: Callable[..., Checked]
) -> None:
    pixels_CHW = changed()
    before = describe_bands(make_raster(texture(), "before.tif"), ["green", "red", "nir"])
    swapped_CHW = np.stack([*pixels_CHW[::-1], pixels_CHW[0]])
    after = describe_bands(make_raster(swapped_CHW, "after.tif"), ["nir", "red", "green", "swir1"])
    with pytest.raises(UserError, match="match their bands by name"):
        check(before, after)
    made = check(before, after, bands="name")
    straight = check(before, describe_bands(make_raster(pixels_CHW, "straight.tif"), ["green", "red", "nir"]))
    assert made.result["correlations"] == straight.result["correlations"]
    assert made.of("Bands")["text"].endswith("green, red, nir.")
    three = describe_bands(make_raster(pixels_CHW[::-1], "three.tif"), ["nir", "red", "green"])
    found = check(before, three).of("Bands")
    assert found["state"] == "warning"
    assert "green of the earlier raster is compared with nir" in found["text"]
    with pytest.raises(UserError, match="cannot be matched by name") as caught:
        check(make_raster(texture(), "nameless.tif"), three, bands="name")
    assert caught.value.field == "bands"


def test_swapped_dates_and_other_seasons_are_warned_of(
    make_raster: Callable[..., Path], check: Callable[..., Checked]
) -> None:
    made = check(make_raster(texture(), "field_20200716.tif"), make_raster(changed(), "field_20190118.tif"))
    assert made.of("Dates")["state"] == "warning"
    assert "Swap" in made.of("Dates")["text"]
    assert "179 days" in made.of("Season")["text"] or "180 days" in made.of("Season")["text"]
    new_year = check(make_raster(texture(), "field_20191220.tif"), make_raster(changed(), "field_20210105.tif"))
    assert new_year.of("Season")["state"] == "ok"
    unknown = check(make_raster(texture(), "one.tif"), make_raster(changed(), "field_2021.tif"))
    assert unknown.of("Dates") == {"state": "unknown", "text": "Nothing tells when one.tif was taken."}


def test_types_pixel_sizes_overlap_and_fill_are_warned_of(
    make_raster: Callable[..., Path], check: Callable[..., Checked]
) -> None:
    before_CHW = texture()
    before_CHW[:, :30] = 0
    before = make_raster(before_CHW.astype("uint8"), "before.tif")
    coarse_CHW = (changed()[:, ::3, ::3] * 10).astype("uint16")
    after = make_raster(coarse_CHW, "after.tif", transform=from_origin(500000, 5100000, 30, 30))
    made = check(before, after)
    assert made.of("Data types")["state"] == made.of("Pixel size")["state"] == "warning"
    assert "10 m and 30 m" in made.of("Pixel size")["text"]
    assert "10.0 % of 'before.tif' is 0 in all bands" in made.of("Fill of before.tif")["text"]
    aside = make_raster(changed(), "aside.tif", transform=from_origin(501500, 5100000, 10, 10))
    assert "46.4 %" in check(before, aside).of("Overlap")["text"]
    assert check(before, aside).of("Overlap")["state"] == "warning"


def test_a_mask_of_either_date_leaves_out_what_it_marks(
    make_raster: Callable[..., Path], check: Callable[..., Checked]
) -> None:
    after_CHW, cloud = changed(), np.zeros((1, 300, 280), "uint8")
    after_CHW[:, 200:, 200:] = 255
    cloud[:, 200:, 200:] = 3
    before, after = make_raster(texture(), "before.tif"), make_raster(after_CHW, "after.tif")
    mask = make_raster(cloud, "clouds.tif")
    free = check(before, after).result["gate"]["share"]
    made = check(before, after, before_mask=str(mask), after_mask=str(mask))
    assert made.of("Clouds")["state"] == "ok"
    assert made.of("Nodata")["text"].startswith("90.5 % of the overlap")
    assert made.result["gate"]["share"] < free - 0.05
    other = check(before, after, after_mask=str(mask), mask_values="7, 9")
    assert other.result["gate"]["share"] == free
    with pytest.raises(UserError, match="not understood") as caught:
        check(before, after, after_mask=str(mask), mask_values="clouds")
    assert caught.value.field == "mask_values"


def test_another_crs_is_noted(make_raster: Callable[..., Path], check: Callable[..., Checked]) -> None:
    from rasterio.warp import transform

    (west,), (north,) = transform("EPSG:32633", "EPSG:32634", [500000], [5100000])
    after = make_raster(changed(), "after.tif", crs="EPSG:32634", transform=from_origin(west, north, 10, 10))
    found = check(make_raster(texture(), "before.tif"), after).of("CRS")
    assert found["state"] == "note"
    assert found["text"] == "The later raster is in EPSG:32634 and is warped to EPSG:32633 while it is read."


def test_what_is_moved_and_resampled_on_request_lies_on_the_earlier_date(
    make_raster: Callable[..., Path], check: Callable[..., Checked], tmp_path: Path
) -> None:
    before = make_raster(texture(), "before.tif", nodata=-1)
    after = make_raster(displaced(changed(), 1.6, -1.2), "after.tif", nodata=-1)
    plain = check(before, after)
    assert plain.of("Alignment")["state"] == "warning"
    assert (plain.result["shift"]["down_px"], plain.result["shift"]["right_px"]) == pytest.approx((1.6, -1.2), abs=0.06)
    assert " px down, 1." in plain.of("Alignment")["text"]
    assert " px left (" in plain.of("Alignment")["text"]
    made = check(before, after, write_moved=True, write_resampled=True)
    files = [event["path"] for event in made.events if event["type"] == "output" and event["kind"] == "aligned"]
    assert [Path(path).name for path in files] == ["after_moved.vrt", "after_on_before.tif"]
    with rasterio.open(files[0]) as vrt, rasterio.open(after) as own:
        np.testing.assert_array_equal(vrt.read(), own.read())
        assert vrt.transform.c == pytest.approx(500000 + 12, abs=0.6)
        assert vrt.transform.f == pytest.approx(5100000 + 16, abs=0.6)
        assert vrt.nodata == -1
    for path in files:
        assert check(before, Path(path)).result["shift"]["verdict"] == "aligned"
    with rasterio.open(files[1]) as resampled, rasterio.open(before) as earlier:
        offset = ~earlier.transform @ (resampled.transform.c, resampled.transform.f)
        assert offset == pytest.approx((1, 0))  # moved back, it misses the first column and the last row
        assert resampled.shape == (earlier.height - 1, earlier.width - 1)
        assert resampled.transform.a == earlier.transform.a


def test_an_uncertain_shift_is_not_corrected(make_raster: Callable[..., Path], check: Callable[..., Checked]) -> None:
    before, after = make_raster(texture(), "before.tif"), make_raster(texture(8), "after.tif")
    made = check(before, after)
    assert made.of("Alignment")["state"] == "unknown"
    assert made.of("Likeness")["state"] == "warning"
    with pytest.raises(UserError, match="was not moved") as caught:
        check(before, after, write_moved=True)
    assert caught.value.field == "write_moved"


def test_arrows_point_from_where_things_are_to_where_the_later_date_shows_them(
    make_raster: Callable[..., Path], check: Callable[..., Checked]
) -> None:
    made = check(make_raster(texture(), "before.tif"), make_raster(displaced(texture(), 2, -1), "after.tif"))
    meta, _, geometry, fields = pyogrio.raw.read(made.outputs / "shift.gpkg")
    table = dict(zip(meta["fields"], fields, strict=True))
    lines = shapely.from_wkb(geometry)
    assert len(lines) == made.result["shift"]["blocks"] == 9
    assert table["counts"].all()
    assert table["down_px"] == pytest.approx(2, abs=0.051)
    for line in lines:
        (x, y), (to_x, to_y), *head = line.coords
        assert len(head) == 3
        assert (to_x - x, to_y - y) == pytest.approx((-160, -320), abs=10)


def test_detect_change_corrects_the_shift_only_when_asked(make_raster: Callable[..., Path], tmp_path: Path) -> None:
    before, after = make_raster(texture(), "before.tif"), make_raster(displaced(changed(), 1.5, 1.5), "after.tif")
    shares = {}
    for correct in (False, True):
        folder = runs.create(tmp_path / "runs", "detect_change", "test", {})
        config = DetectChangeConfig(before=str(before), after=str(after), correct_shift=correct)
        result = detect_change(config, runs.Run(folder))
        shares[correct] = result["gate"]["share"]
        alignment = result["findings"]["Alignment"]
        assert alignment["state"] == ("ok" if correct else "warning")
        assert ("moved back" in alignment["text"]) == correct or not correct
    assert shares[True] < shares[False]
