"""Whether two dates differ at all: scenes that did not change, few new objects, and a shift."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from scipy import ndimage

from .test_change import Made, compare, landscape  # noqa: F401  the fixture is used by name

NULLS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "itself": lambda pixels: pixels,
    "noise": lambda pixels: pixels + np.random.default_rng(1).normal(size=pixels.shape) * 2,
    "gain and offset": lambda pixels: pixels * 1.2 + 10,
    "gamma": lambda pixels: 255 * (pixels / 255) ** 1.4,
    "half a pixel of shift": lambda pixels: ndimage.shift(pixels, (0, 0.5, 0.5), order=3, mode="nearest"),
}


@pytest.mark.parametrize("null", NULLS)
def test_a_scene_that_did_not_change_has_no_difference_and_no_polygons(
    null: str, make_raster: Callable[..., Path], compare: Callable[..., Made]
) -> None:
    before_CHW = landscape()
    after_CHW = NULLS[null](before_CHW).astype(np.float32)
    made = compare(make_raster(before_CHW, "before.tif"), make_raster(after_CHW, "after.tif"))
    assert made.result["gate"]["verdict"] == "none"
    assert made.result["polygons"] == made.result["share_changed"] == 0
    assert "No difference beyond one pixel of misalignment" in made.result["sentence"]
    assert set(made.read("change.tif").ravel()) == {0}
    assert [event["kind"] for event in made.of("output")] == ["magnitude", "change"]


def test_a_few_new_objects_in_a_rough_scene_that_did_not_change_are_outlined(
    make_raster: Callable[..., Path], compare: Callable[..., Made]
) -> None:
    """A hundredth of the area is too little for the share of all pixels, and too clear to be left out."""
    before_CHW = landscape(height=200, width=200) + 60 * (np.arange(200) % 4 < 2)
    after_CHW = before_CHW.copy()
    for row, column in ((30, 40), (90, 150), (160, 80)):
        after_CHW[:, row : row + 11, column : column + 11] = np.array([[[300]], [[40]], [[200]]])
    made = compare(make_raster(before_CHW, "before.tif"), make_raster(after_CHW, "after.tif"))
    assert made.result["gate"]["verdict"] == "few"
    assert made.result["gate"]["share"] < 0.03
    assert made.result["polygons"] == 3
    assert made.read("change.tif")[35, 45] == 1


def test_a_whole_pixel_of_shift_is_not_taken_for_a_few_objects(
    make_raster: Callable[..., Path], compare: Callable[..., Made]
) -> None:
    before_CHW = landscape(height=200, width=200) + 60 * (np.arange(200) % 4 < 2)
    after_CHW = np.roll(before_CHW, (1, 0), axis=(1, 2))
    made = compare(make_raster(before_CHW, "before.tif"), make_raster(after_CHW, "after.tif"))
    assert made.result["gate"]["strong"] < 0.005


@pytest.mark.parametrize(
    ("folder", "before", "after"),
    [
        ("naip_dakota", "naip_west_20140720", "naip_west_20200831"),
        ("alert_pair_guianas", "before", "after"),
        ("landsat_ucayali", "landsat_ucayali_west_1985", "landsat_ucayali_west_1990"),
    ],
)
def test_other_real_pairs_pass_the_gate(
    folder: str, before: str, after: str, data: Path, compare: Callable[..., Made]
) -> None:
    made = compare(data / folder / f"{before}.tif", data / folder / f"{after}.tif")
    assert made.result["gate"]["share"] > 0.12


@pytest.mark.parametrize("null", NULLS)
@pytest.mark.parametrize(
    "name", ["naip_dakota/naip_west_20180716.tif", "landsat_ucayali/landsat_ucayali_west_2020.tif"]
)
def test_a_real_scene_that_did_not_change_has_no_difference(
    null: str, name: str, data: Path, tmp_path: Path, compare: Callable[..., Made]
) -> None:
    with rasterio.open(data / name) as dataset:
        profile, pixels_CHW = dataset.profile, dataset.read()
    after_CHW = np.where(pixels_CHW == 0, 0, np.clip(NULLS[null](pixels_CHW.astype(np.float32)).round(), 1, 400))
    with rasterio.open(tmp_path / "after.tif", "w", **{**profile, "dtype": "uint16"}) as dataset:
        dataset.write(after_CHW.astype(np.uint16))
    made = compare(data / name, tmp_path / "after.tif")
    assert made.result["gate"]["share"] < 0.03
    assert (made.result["gate"]["verdict"], made.result["polygons"]) == ("none", 0)
