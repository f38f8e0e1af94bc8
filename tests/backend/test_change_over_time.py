"""More than two dates: when places first changed, how often and how much, pixel by pixel as two dates alone tell it."""

import json
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin
from rasterio.warp import transform
from rsfm import runs
from rsfm.change import detect_change
from rsfm.change_over_time import change_over_time
from rsfm.date_colours import date_colours
from rsfm.errors import Cancelled, UserError
from rsfm.jobs.change_over_time import ChangeOverTimeConfig
from rsfm.jobs.detect_change import DetectChangeConfig
from rsfm.raster import pair as pair_module
from rsfm.raster.collection import Collection, save
from rsfm.raster.describing import describe_raster
from scipy import ndimage

from .toy_model import run_job

DATES = ("2015-07-11", "2016-07-02", "2017-07-20", "2018-07-05", "2019-07-09")
BUILT, FLOODED, SOWN = (slice(5, 45), slice(5, 45)), (slice(55, 115), slice(5, 60)), (slice(10, 80), slice(80, 130))
"""Changed for good in 2017; in 2017 and back in 2019; for good in 2018. Large enough for a threshold from the data."""
CLOUD = slice(60, 110), slice(10, 60)
"""Missing in 2017: over what was flooded then."""
LAYERS = ("first_change.tif", "change_count.tif", "largest_magnitude.tif")


class Made(NamedTuple):
    result: dict[str, Any]
    events: list[dict[str, Any]]
    outputs: Path

    def read(self, name: str) -> np.ndarray:
        with rasterio.open(self.outputs / name) as dataset:
            return np.asarray(dataset.read(1))

    def texts(self, type: str) -> str:
        return " ".join(event["text"] for event in self.events if event["type"] == type)

    def rasters(self) -> dict[str, np.ndarray]:
        return {path.name: self.read(path.name) for path in sorted(self.outputs.glob("*.tif"))}


@pytest.fixture
def compare(tmp_path: Path) -> Callable[..., Made]:
    def run_it(rasters: Sequence[Path | str], control: str = "", **values: Any) -> Made:
        folder = runs.create(tmp_path / "runs", "change_over_time", "test", {})
        if control:
            runs.request_end(folder, control)  # type: ignore[arg-type]
        config = ChangeOverTimeConfig(rasters=[str(path) for path in rasters], **values)
        result = change_over_time(config, runs.Run(folder))
        json.dumps(result, allow_nan=False)
        lines = (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()
        return Made(result, [json.loads(line) for line in lines], folder / "outputs")

    return run_it


def pixels_of_dates(bands: int = 3, height: int = 120, width: int = 150) -> list[np.ndarray]:
    """Draw five dates of one landscape with noise, and of other cover where something changed."""
    random = np.random.default_rng(0)
    fields = ndimage.gaussian_filter(random.normal(size=(bands, height, width)), (0, 4, 4))
    fields = fields / fields.std() * 30 + 110
    found = []
    for year in range(2015, 2020):
        pixels_CHW = fields + random.normal(size=fields.shape) * 2
        shown = [(BUILT, year >= 2017), (FLOODED, year in (2017, 2018)), (SOWN, year >= 2018)]
        for (rows, columns), is_other in shown:
            if is_other:
                pixels_CHW[0, rows, columns] += 120
                pixels_CHW[1, rows, columns] -= 80
        found.append(pixels_CHW.astype(np.float32))
    return found


@pytest.fixture
def five(make_raster: Callable[..., Path]) -> list[Path]:
    """Five dates, of which 2017 misses a part."""
    dates = pixels_of_dates()
    dates[2][:, CLOUD[0], CLOUD[1]] = 0
    return [make_raster(pixels_CHW, f"scene_{day}.tif", nodata=0) for day, pixels_CHW in zip(DATES, dates, strict=True)]


def days(day: str) -> int:
    return (date.fromisoformat(day) - date(1899, 12, 30)).days


def test_places_change_first_at_the_date_they_were_made_to(make_raster: Callable[..., Path], compare: Any) -> None:
    dates = zip(DATES, pixels_of_dates(), strict=True)
    made = compare([make_raster(pixels_CHW, f"scene_{day}.tif") for day, pixels_CHW in dates])
    first_HW, count_HW = made.read("first_change.tif"), made.read("change_count.tif")
    truth_HW, times_HW = np.zeros_like(first_HW), np.zeros_like(count_HW)
    truth_HW[BUILT] = truth_HW[FLOODED] = days("2017-07-20")
    truth_HW[SOWN] = days("2018-07-05")
    times_HW[BUILT] = times_HW[SOWN] = 1
    times_HW[FLOODED] = 2
    shape = {"size": 7}  # IR-MAD smooths: what lies within 3 pixels of an edge is between
    clear_HW = ndimage.maximum_filter(truth_HW, **shape) == ndimage.minimum_filter(truth_HW, **shape)
    assert (first_HW == truth_HW)[clear_HW].mean() > 0.999
    assert (count_HW == times_HW)[clear_HW].mean() > 0.999
    inside = slice(9, 41), slice(9, 41)
    assert (first_HW[inside] == days("2017-07-20")).mean() > 0.99
    assert not made.read("change_2016-07-02.tif").any(), "noise counts as change"
    assert made.result["comparisons"]["2015-07-11 and 2016-07-02"]["verdict"] == "none"
    assert "first on 2017-07-20" in made.result["sentence"]


@pytest.mark.parametrize("against", ["previous", "first"])
@pytest.mark.parametrize("method", ["ir_mad", "difference"])
def test_each_pixel_is_what_detect_change_finds_for_its_two_dates(
    against: str, method: str, five: list[Path], compare: Any, tmp_path: Path
) -> None:
    made = compare(five, against=against, method=method)
    valid_DHW = np.ones((5, 120, 150), bool)
    valid_DHW[2][CLOUD] = False
    first_HW, count_HW = np.zeros((120, 150), int), np.zeros((120, 150), int)
    largest_HW = np.zeros((120, 150), np.float32)
    for number in range(1, 5):
        changed_HW = np.zeros((120, 150), bool)
        for before in range(number):
            between = slice(0, before) if against == "first" else slice(before + 1, number)
            here_HW = valid_DHW[before] & valid_DHW[number] & ~valid_DHW[between].any(0)
            if here_HW.any():
                magnitude_HW, threshold = pair_alone(five[before], five[number], method, tmp_path)
                largest_HW[here_HW] = np.maximum(largest_HW, np.where(threshold < np.inf, magnitude_HW, 0))[here_HW]
                changed_HW |= here_HW & (magnitude_HW > np.float32(threshold))
        expected_HW = np.where(valid_DHW[number], changed_HW, 255)
        np.testing.assert_array_equal(made.read(f"change_{DATES[number]}.tif"), expected_HW)
        first_HW[changed_HW & (count_HW == 0)] = days(DATES[number])
        count_HW += changed_HW
    np.testing.assert_array_equal(made.read("first_change.tif"), first_HW)
    np.testing.assert_array_equal(made.read("change_count.tif"), count_HW)
    np.testing.assert_array_equal(made.read("largest_magnitude.tif"), largest_HW)
    assert (count_HW[CLOUD] > 0).any(), "nothing changed where a date is missing: the test would not see a gap"


def pair_alone(before: Path, after: Path, method: str, folder: Path) -> tuple[np.ndarray, float]:
    """Return what `detect_change` finds: the magnitude and the threshold, infinite where there is no difference."""
    run = runs.Run(runs.create(folder / "pairs", "detect_change", "test", {}))
    found = detect_change(DetectChangeConfig(before=str(before), after=str(after), method=method), run)
    with rasterio.open(run.outputs / "magnitude.tif") as dataset:
        return dataset.read(1), np.inf if found["threshold"] is None else found["threshold"]


def test_the_height_of_strips_changes_nothing(five: list[Path], compare: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for rows in (1000, 13, 1):
        monkeypatch.setattr(pair_module, "STRIP_BYTES", rows * 4 * 3 * 150)
        found.append(compare(five).rasters())
    assert len(found[0]) == len(LAYERS) + 4
    for other in found[1:]:
        for name, pixels_HW in found[0].items():
            np.testing.assert_array_equal(other[name], pixels_HW, name)


@pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:32634"])
def test_an_area_gives_the_crop_of_the_whole(crs: str, make_raster: Callable[..., Path], compare: Any) -> None:
    dates = pixels_of_dates()
    (west,), (north,) = transform("EPSG:32633", crs, [500003], [5100004])
    moved = {"crs": crs, "transform": from_origin(west, north, 10, 10)}
    profiles = [{}, {}, moved, {}, {}]
    paths = [
        make_raster(pixels_CHW, f"scene_{day}.tif", **profile)
        for day, pixels_CHW, profile in zip(DATES, dates, profiles, strict=True)
    ]
    whole, part = compare(paths), compare(paths, area="500300,5099200,500900,5099700")
    for name, pixels_HW in part.rasters().items():
        np.testing.assert_array_equal(pixels_HW, whole.read(name)[30:80, 30:90], name)
    assert (part.read("change_count.tif") == 1).any()
    assert part.result["comparisons"].items() <= whole.result["comparisons"].items()


def test_the_order_in_which_rasters_are_named_changes_nothing(five: list[Path], compare: Any) -> None:
    one, other = compare(five), compare([five[place] for place in (3, 0, 4, 2, 1)])
    assert one.result == other.result
    for name, pixels_HW in one.rasters().items():
        np.testing.assert_array_equal(other.read(name), pixels_HW, name)


def test_layers_have_the_dates_that_the_time_slider_plays(five: list[Path], compare: Any) -> None:
    made = compare(five)
    outputs = [event for event in made.events if event["type"] == "output"]
    dated = {event["date"]: event for event in outputs if event["kind"] == "change"}
    assert list(dated) == list(DATES[1:])
    (first,) = [event for event in outputs if event["kind"] == "first_change"]
    assert first["date"] == DATES[0]
    assert [each["name"] for each in first["style"]["classes"]] == list(DATES[1:])
    assert [each["value"] for each in first["style"]["classes"]] == [days(day) for day in DATES[1:]]
    for day, each in zip(DATES[1:], first["style"]["classes"], strict=True):
        assert dated[day]["style"]["classes"] == [{**each, "value": 1}]
        assert describe_raster(dated[day]["path"]).date[:10] == day  # type: ignore[index]
    assert all("date" not in event for event in outputs if event["kind"] in {"change_count", "magnitude"})


def test_a_collection_leaves_out_what_its_masks_mark(
    five: list[Path], make_raster: Callable[..., Path], compare: Any, tmp_path: Path
) -> None:
    clouds_HW = np.zeros((1, 120, 150), np.uint8)
    clouds_HW[0, :, 100:] = 3
    mask = make_raster(clouds_HW, "clouds.tif")
    entries = [describe_raster(str(path)) for path in reversed(five)]
    entries[1] = entries[1].model_copy(update={"mask": str(mask), "masked": (3,)})
    save(tmp_path / "dates.collection.json", Collection(name="dates", entries=tuple(entries)))
    made = compare([tmp_path / "dates.collection.json"])
    assert (made.read("change_2018-07-05.tif")[:, 100:] == 255).all()
    inside = slice(SOWN[0].start + 4, SOWN[0].stop - 4), slice(104, SOWN[1].stop - 4)
    assert (made.read("first_change.tif")[inside] == days("2019-07-09")).mean() > 0.98, "not compared across 2018"


def test_pixels_of_one_date_alone_are_nodata(make_raster: Callable[..., Path], compare: Any) -> None:
    dates = pixels_of_dates()
    for pixels_CHW in dates[1:]:
        pixels_CHW[:, :30] = 0
    paths = [make_raster(each, f"scene_{day}.tif", nodata=0) for day, each in zip(DATES, dates, strict=True)]
    made = compare(paths)
    for name, nodata in zip(LAYERS[:2], (-1, 65535), strict=True):
        assert (made.read(name)[:30] == nodata).all(), name
        assert (made.read(name)[30:] != nodata).all(), name
    np.testing.assert_array_equal(np.isnan(made.read(LAYERS[2])), made.read(LAYERS[0]) == -1)


def test_dates_that_do_not_differ_have_no_change_and_it_is_said(make_raster: Callable[..., Path], compare: Any) -> None:
    random, still_CHW = np.random.default_rng(4), pixels_of_dates()[0]
    noisy = [still_CHW * (1 + 0.1 * number) + random.normal(size=still_CHW.shape) for number in range(3)]
    made = compare([make_raster(each.astype("float32"), f"{day}.tif") for day, each in zip(DATES, noisy, strict=False)])
    assert made.result["sentence"].startswith("No difference beyond one pixel of misalignment")
    assert not any(pixels_HW.any() for pixels_HW in made.rasters().values())


def test_a_date_that_is_hidden_is_passed_over_and_told(make_raster: Callable[..., Path], compare: Any) -> None:
    dates = pixels_of_dates()
    dates[1][:, :119] = 0
    dates[1][:, :, 8:] = 0  # 8 pixels are left, too few for statistics
    paths = [make_raster(each, f"scene_{day}.tif", nodata=0) for day, each in zip(DATES, dates, strict=True)]
    made = compare(paths)
    assert "'scene_2016-07-02.tif' of 2016-07-02 could not be compared" in made.texts("warning")
    assert not (made.outputs / "change_2016-07-02.tif").exists()
    assert (made.read("first_change.tif")[9:41, 9:41] == days("2017-07-20")).mean() > 0.98
    assert made.read("change_2017-07-20.tif")[119, 4] == 0, "it was not compared with the date before the hidden one"
    without = compare([paths[0], *paths[2:]])
    for name, pixels_HW in without.rasters().items():
        np.testing.assert_array_equal(made.read(name), pixels_HW, name)


def test_dates_without_anything_in_common_are_all_compared_plainly(
    make_raster: Callable[..., Path], compare: Any
) -> None:
    dates = pixels_of_dates()
    dates[4] = np.random.default_rng(8).permutation(dates[4].reshape(3, -1), axis=1).reshape(dates[4].shape)
    made = compare([make_raster(each, f"scene_{day}.tif") for day, each in zip(DATES, dates, strict=True)])
    assert made.result["method"] == "difference"
    assert "Plain differences are shown in place of IR-MAD" in made.texts("warning")


def test_series_that_cannot_be_compared_are_refused_with_the_reason(
    make_raster: Callable[..., Path], five: list[Path], compare: Any
) -> None:
    pixels_CHW = pixels_of_dates()[0]
    far = make_raster(pixels_CHW, "far_2020-01-01.tif", transform=from_origin(600000, 5100000, 10, 10))
    two = make_raster(pixels_CHW[:2], "two_2020-01-01.tif")
    again = make_raster(pixels_CHW, "again_2016-07-02.tif")
    undated = make_raster(pixels_CHW, "undated.tif")
    cases = [
        (five[:2], "2 dates can be used (scene_2015-07-11.tif of 2015-07-11 and"),
        ([*five[:3], undated], "Nothing tells when 'undated.tif' was taken"),
        ([*five[:3], again], "are both of 2016-07-02"),
        ([*five[:3], far], "'far_2020-01-01.tif' and 'scene_2015-07-11.tif' do not overlap"),
        ([*five[:3], two], "has 2 bands and 'scene_2015-07-11.tif' has 3"),
    ]
    for rasters, said in cases:
        with pytest.raises(UserError) as refusal:
            compare(rasters)
        assert said in str(refusal.value)
        assert "'Rasters'" in str(refusal.value)
        assert refusal.value.field == "rasters"
    with pytest.raises(UserError, match="outside") as refusal:
        compare(five, area="400000,5000000,400100,5000100")
    assert refusal.value.field == "area"


def test_a_date_that_lies_off_is_told_and_not_moved(make_raster: Callable[..., Path], compare: Any) -> None:
    wide = pixels_of_dates(height=300, width=340)
    moved = [ndimage.shift(wide[number], (0, 1.5, 0), order=3)[:, 10:-10] for number in range(2)]
    shown = [wide[0][:, 10:-10], moved[1], moved[0] + 1]
    paths = [make_raster(each, f"scene_{day}.tif") for day, each in zip(DATES, shown, strict=False)]
    made = compare(paths)
    text = made.texts("warning")
    assert "2015-07-11 and 2016-07-02: The later date lies off by 1." in text
    assert "Let 'Check Pair' write it moved back" in text
    assert "2016-07-02 and 2017-07-20" not in text
    told = made.result["comparisons"]
    assert told["2015-07-11 and 2016-07-02"]["alignment"] == "shifted"
    assert told["2015-07-11 and 2016-07-02"]["shift_px"] == pytest.approx(1.5, abs=0.4)  # how exactly: test_shift.py
    assert told["2016-07-02 and 2017-07-20"]["alignment"] == "aligned"


def test_dates_whose_alignment_nobody_can_tell_are_noted(make_raster: Callable[..., Path], compare: Any) -> None:
    dates = zip(DATES, pixels_of_dates(width=60), strict=True)  # narrower than a block
    made = compare([make_raster(pixels_CHW, f"scene_{day}.tif") for day, pixels_CHW in dates])
    assert "2015-07-11 and 2016-07-02: The alignment could not be verified: no block" in made.texts("note")
    told = made.result["comparisons"]["2015-07-11 and 2016-07-02"]
    assert (told["alignment"], told["shift_px"]) == ("unknown", None)


def test_cancel_ends_it_and_leaves_nothing(five: list[Path], compare: Any, tmp_path: Path) -> None:
    with pytest.raises(Cancelled):
        compare(five, control="cancel")
    assert not list((tmp_path / "runs").glob("*/outputs/*.tif"))


def test_colours_go_from_dark_to_light() -> None:
    assert date_colours(7)[0] == "#440154"
    assert date_colours(7)[-1] == "#fde725"
    assert len({*date_colours(40)}) == 40
    assert date_colours(1) == ["#21918c"]


def test_real_dates_under_clouds_agree_layer_by_layer(data: Path, tmp_path: Path) -> None:
    folder = data / "s2_slovenia"
    rasters = [str(folder / "S2_L1C_*.tif"), str(folder / "cloudmask_*.tif")]
    outputs = run_job(tmp_path, "change_over_time", "slovenia", rasters=rasters)
    result = runs.read(outputs.parent)["result"]
    hidden = [day for day, found in result["dates"].items() if not found["pixels_compared"]]
    assert hidden == ["2015-07-31", "2015-08-20", "2016-12-22"]  # clouds, clouds, 95 % nodata
    made = Made(result, [], outputs)
    shown = {path.stem.removeprefix("change_"): made.read(path.name) for path in sorted(outputs.glob("change_2*.tif"))}
    assert len(shown) == 6
    first_HW, count_HW = np.zeros((101, 100), int), np.zeros((101, 100), int)
    for day, change_HW in shown.items():
        first_HW[(change_HW == 1) & (count_HW == 0)] = days(day)
        count_HW += change_HW == 1
    np.testing.assert_array_equal(made.read("change_count.tif"), count_HW)
    np.testing.assert_array_equal(made.read("first_change.tif"), first_HW)
    assert 0.02 < result["share_ever_changed"] < 0.5
