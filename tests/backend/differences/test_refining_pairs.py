"""Clicks take the pair as the comparison does: bands by name, without clouds, the later date moved back."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin
from rsfm import model_file
from rsfm.differences.live import Refits
from rsfm.jobs.refine_change import RefineChangeConfig

from tests.backend.differences.conftest import MINE, NOT_THIS, THIS, changed, landscape
from tests.backend.toy_model import make_model

CLICKS = {"mine": THIS, "not this": NOT_THIS}
NAMES = "green", "red", "nir"
SHAPE = 200, 230
SCREEN = {"bounds": [500300, 5099200, 500900, 5099700], "crs": "EPSG:32633"}
OFF, EDGE = (3, -2), 8
"""Pixels down and right by which the later date lies off; pixels of nodata around it."""
INSIDE = slice(16, -16), slice(16, -16)


@pytest.fixture
def dates(make_raster: Callable[..., Path]) -> tuple[Path, Path, Path]:
    """Two dates, and the later one once more, OFF by whole pixels."""
    before_CHW = landscape(0, *SHAPE)
    after_CHW = changed(before_CHW)
    around_CHW = np.pad(after_CHW, ((0, 0), (EDGE, EDGE), (EDGE, EDGE)))
    return (
        make_raster(before_CHW, "before.tif"),
        make_raster(after_CHW, "after.tif"),
        make_raster(around_CHW, "moved.tif", nodata=0, transform=place_of(EDGE)),
    )


def place_of(edge: int = 0) -> Any:
    """Return the transform of a raster that lies off, with a frame of so many pixels."""
    return from_origin(500000 + 10 * (OFF[1] - edge), 5100000 - 10 * (OFF[0] - edge), 10, 10)


@pytest.fixture
def clouds(make_raster: Callable[..., Path]) -> Callable[..., str]:
    """Write a mask of some places, on the grid of the pair unless another is given."""

    def write(*places: tuple[slice, slice], **profile: Any) -> str:
        mask_HW = np.zeros(SHAPE, "uint8")
        for place in places:
            mask_HW[place] = 1
        return str(make_raster(mask_HW[None], "clouds.tif", **profile))

    return write


@pytest.mark.parametrize("with_model", [False, True])
def test_the_likeness_of_a_pair_that_lies_off_is_that_of_the_pair_once_it_is_corrected(
    with_model: bool, dates: tuple[Path, Path, Path], click: Any, refine: Any, tmp_path: Path
) -> None:
    before, after, moved = dates
    values = {"clicks": click(CLICKS), "device": "cpu"}
    if with_model:
        values["model"] = str(make_model(tmp_path / "model.safetensors", before))
    still = refine(before, after, **values)
    found = refine(before, moved, correct_shift=True, **values)
    np.testing.assert_allclose(found.read("likeness.tif"), still.read("likeness.tif"), atol=0.02)
    assert found.result["shift"]["verdict"] == "shifted"
    assert (found.result["shift"]["down_px"], found.result["shift"]["right_px"]) == pytest.approx(OFF, abs=0.05)
    assert any("moved back" in event["text"] for event in found.of("note"))
    uncorrected = refine(before, moved, **values)
    assert np.abs(uncorrected.read("likeness.tif") - still.read("likeness.tif"))[INSIDE].max() > 0.3
    assert "shift" not in uncorrected.result


def test_a_shift_that_nobody_can_tell_is_told_and_left(
    make_raster: Callable[..., Path], click: Any, refine: Any
) -> None:
    before = make_raster(landscape(0, *SHAPE), "before.tif")
    other = make_raster(landscape(7, *SHAPE), "other.tif")
    made = refine(before, other, clicks=click(CLICKS), correct_shift=True)
    assert made.result["shift"]["verdict"] == "unknown"
    assert any("could not be verified" in event["text"] for event in made.of("warning"))


def test_what_a_mask_leaves_out_is_neither_learnt_from_nor_mapped(
    dates: tuple[Path, Path, Path], clouds: Callable[..., str], click: Any, refine: Any
) -> None:
    before, after, _ = dates
    cloudy = slice(150, 190), slice(150, 200)
    mask = clouds(cloudy)
    wrong = {**CLICKS, "mine": (*THIS, (170, 170), (160, 190))}  # under the cloud, and no mine
    made = refine(before, after, clicks=click(wrong), after_mask=mask)
    likeness_HW, change_HW = made.read("likeness.tif"), made.read("change.tif")
    assert np.isnan(likeness_HW[cloudy]).all()
    assert (change_HW[cloudy] == 255).all()
    assert np.isfinite(likeness_HW).sum() == likeness_HW.size - 40 * 50
    plain = refine(before, after, clicks=click(CLICKS), after_mask=mask)
    np.testing.assert_array_equal(plain.read("likeness.tif"), likeness_HW)
    seen = refine(before, after, clicks=click(wrong))
    assert np.nanmax(np.abs(seen.read("likeness.tif") - likeness_HW)) > 0.05


def test_the_mask_of_a_date_that_lies_off_is_moved_with_it(
    dates: tuple[Path, Path, Path], clouds: Callable[..., str], click: Any, refine: Any
) -> None:
    before, after, moved = dates
    cloudy = slice(100, 140), slice(120, 180)
    mask = clouds(cloudy, transform=place_of())
    found = refine(before, moved, clicks=click(CLICKS), correct_shift=True, after_mask=mask)
    still = refine(before, after, clicks=click(CLICKS), after_mask=clouds(cloudy))
    missing_HW = np.isnan(still.read("likeness.tif"))
    assert missing_HW.sum() == 40 * 60
    np.testing.assert_array_equal(np.isnan(found.read("likeness.tif")), missing_HW)


def name_bands(path: Path, *names: str) -> Path:
    with rasterio.open(path, "r+") as dataset:
        dataset.descriptions = names
    return path


@pytest.mark.parametrize("with_model", [False, True])
def test_bands_of_the_same_name_are_compared_whatever_their_order(
    with_model: bool, make_raster: Callable[..., Path], click: Any, refine: Any, tmp_path: Path
) -> None:
    """A model of a collection finds its bands by name, too."""
    before_CHW = landscape(0, *SHAPE)
    after_CHW = changed(before_CHW)
    before = name_bands(make_raster(before_CHW, "before.tif"), *NAMES)
    after = name_bands(make_raster(after_CHW, "after.tif"), *NAMES)
    values = {"clicks": click(CLICKS), "device": "cpu"}
    if with_model:
        made = model_file.load(str(make_model(tmp_path / "model.safetensors", before)))
        card = made.card.model_copy(update={"units": True, "band_names": NAMES})
        model_file.save(tmp_path / "model.safetensors", card, made.tensors)
        values["model"] = str(tmp_path / "model.safetensors")
    swapped_CHW = np.stack([after_CHW[2], after_CHW[0], 255 - after_CHW[0], after_CHW[1]])
    swapped = name_bands(make_raster(swapped_CHW, "swapped.tif"), "nir", "green", "swir1", "red")
    straight = refine(before, after, **values).read("likeness.tif")
    by_name = refine(before, swapped, **values, bands="name").read("likeness.tif")
    np.testing.assert_array_equal(by_name, straight)
    three = name_bands(make_raster(swapped_CHW[[0, 1, 3]], "three.tif"), "nir", "green", "red")
    assert np.abs(refine(before, three, **values).read("likeness.tif") - straight).max() > 0.3


def test_clicks_on_the_screen_take_the_pair_likewise_and_anew_when_a_setting_changes(
    dates: tuple[Path, Path, Path], clouds: Callable[..., str], click: Any, refine: Any, tmp_path: Path
) -> None:
    before, _, moved = dates
    mask, clicks, refits = clouds((slice(60, 70), slice(40, 60))), click(CLICKS), Refits()

    def ask(**values: Any) -> tuple[np.ndarray, list[str]]:
        config = RefineChangeConfig(before=str(before), after=str(moved), clicks=clicks, **values)
        made = refits.refit(config, SCREEN, str(tmp_path / "view"))
        with rasterio.open(made["path"]) as file:
            return file.read(1), made["notes"]

    try:
        for values in ({}, {"correct_shift": True}, {"correct_shift": True, "before_mask": mask}):
            found_HW, notes = ask(**values)
            whole = refine(before, moved, clicks=clicks, **values).read("likeness.tif")
            np.testing.assert_array_equal(found_HW, whole[30:80, 30:90])
            assert not notes
    finally:
        refits.close()
    assert np.isnan(found_HW[30:40, 10:30]).all()
    assert (found_HW[MINE[0].start - 30 : 20, MINE[1].start - 30 : 50] > 0.5).mean() > 0.9
