"""How far two dates miss each other: applied shifts, contrast, noise, and answers that are "cannot tell"."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from rasterio.transform import from_origin
from rsfm.differences import shift as module
from rsfm.differences.findings import alignment
from rsfm.differences.shift import MOST_BLOCKS, BlockShift, Shift, block_windows, judge, measure_shift
from rsfm.raster.grid import Window
from rsfm.raster.pair import Pairing, open_pair
from scipy import ndimage

PAIRS = {
    "naip": ("naip_dakota", "naip_west_20180716.tif", "naip_west_20200831.tif"),
    "ucayali 1985-2000": ("landsat_ucayali", "landsat_ucayali_west_1985.tif", "landsat_ucayali_west_2000.tif"),
    "ucayali 2000-2020": ("landsat_ucayali", "landsat_ucayali_west_2000.tif", "landsat_ucayali_west_2020.tif"),
}
APPLIED = [(0.5, 0.0), (0.0, -0.7), (0.8, 0.6), (-1.5, 1.0), (2.1, 2.1), (0.0, 3.0)]


def texture(seed: int = 0, bands: int = 3, height: int = 300, width: int = 280) -> np.ndarray:
    random = np.random.default_rng(seed)
    fields = ndimage.gaussian_filter(random.normal(size=(bands, height, width)), (0, 2, 2))
    return (fields / fields.std() * 30 + 120).astype(np.float32)


def displaced(pixels_CHW: np.ndarray, down: float, right: float) -> np.ndarray:
    return np.asarray(ndimage.shift(pixels_CHW, (0, down, right), order=3, mode="nearest"), np.float32)


def shift_of(before: Path, after: Path, how: Pairing | None = None) -> Shift:
    with open_pair(str(before), str(after), how or Pairing()) as pair:
        return measure_shift(pair)


@pytest.mark.parametrize("applied", APPLIED)
def test_an_applied_shift_is_found_to_a_twentieth_of_a_pixel(
    applied: tuple[float, float], make_raster: Callable[..., Path]
) -> None:
    before_CHW = texture()
    random = np.random.default_rng(1)
    after_CHW = displaced(before_CHW, *applied) * 1.3 + 20 + random.normal(size=before_CHW.shape) * 3
    found = shift_of(make_raster(before_CHW, "before.tif"), make_raster(after_CHW.astype(np.float32), "after.tif"))
    assert found.verdict == "shifted"
    assert (found.down, found.right) == pytest.approx(applied, abs=0.051)


def test_reversed_contrast_is_no_obstacle(make_raster: Callable[..., Path]) -> None:
    before_CHW = texture()
    found = shift_of(
        make_raster(before_CHW, "before.tif"), make_raster(255 - displaced(before_CHW, 1.4, -0.6), "after.tif")
    )
    assert (found.down, found.right) == pytest.approx((1.4, -0.6), abs=0.051)


def test_a_raster_lies_on_itself(make_raster: Callable[..., Path]) -> None:
    path = make_raster(texture(), "one.tif")
    found = shift_of(path, path)
    assert (found.verdict, found.length) == ("aligned", 0)


def test_nodata_of_one_date_does_not_pull_the_shift(make_raster: Callable[..., Path]) -> None:
    before_CHW = texture()
    after_CHW = displaced(before_CHW, 0.8, 0.6)
    before_CHW[:, 100:160, 20:150], after_CHW[:, 40:90, 100:220] = 0, 0
    found = shift_of(make_raster(before_CHW, "before.tif", nodata=0), make_raster(after_CHW, "after.tif", nodata=0))
    assert (found.down, found.right) == pytest.approx((0.8, 0.6), abs=0.1)


@pytest.mark.parametrize("other", ["another scene", "noise", "constant"])
def test_unrelated_dates_cannot_be_told(other: str, make_raster: Callable[..., Path]) -> None:
    random = np.random.default_rng(5)
    after_CHW = {
        "another scene": texture(9),
        "noise": random.normal(size=(3, 300, 280)).astype(np.float32) * 20 + 100,
        "constant": np.full((3, 300, 280), 7, np.float32),
    }[other]
    found = shift_of(make_raster(texture(), "before.tif"), make_raster(after_CHW, "after.tif"))
    assert (found.verdict, found.down, found.right) == ("unknown", 0, 0)


def test_an_overlap_too_small_for_a_block_cannot_be_told(make_raster: Callable[..., Path]) -> None:
    path = make_raster(texture(height=60, width=200), "one.tif")
    assert shift_of(path, path) == Shift("unknown", 0.0, 0.0, float("inf"), 0, (), "no block")


def blocks(*shifts: tuple[float, float], bad: int = 0) -> list[BlockShift]:
    return [BlockShift(0, 0, *shift, 20) for shift in shifts] + [BlockShift(0, 0, 40, 9, 5)] * bad


def test_blocks_that_count_must_be_enough_and_agree() -> None:
    assert judge(blocks((1, 0), (1, 0.1), (1, -0.1), bad=9)) == Shift(
        "shifted", 1, 0, 0.1, 3, tuple(blocks((1, 0), (1, 0.1), (1, -0.1), bad=9))
    )
    assert judge(blocks((1, 0), (1, 0), (1, 0), bad=10)).verdict == "unknown"
    assert judge(blocks((1, 0), (4, 0), (-3, 2), (0, 5))).verdict == "unknown"
    assert judge(blocks((0.2, 0.2), (0.2, 0.2))).verdict == "aligned"
    assert judge(blocks((2, 2))).verdict == "unknown"
    assert judge([]).verdict == "unknown"


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        ([], "no block of 64 to 128 px is valid on both dates for 75 % of it, so that nothing could be compared"),
        (blocks(bad=1), "the only block does not show a clear match, a peak of 9 deviations"),
        (blocks(bad=12), "none of 12 blocks shows a clear match, a peak of 9 deviations"),
        (blocks((0, 0)), "only one block fits into what they share, and at least 2 that agree are asked for"),
        (
            blocks((0, 0), bad=3),
            "only 1 of 4 blocks shows a clear match, a peak of 9 deviations; at least 2 must",
        ),
        (
            blocks(*[(0, 0)] * 14, bad=46),
            "only 14 of 60 blocks show a clear match, a peak of 9 deviations; at least 15 must",
        ),
        (
            blocks(*[(0, 0)] * 17, *[(3, 0)] * 17, *[(-3, 0)] * 17, bad=9),
            "51 of 60 blocks have a clear match, but they disagree: half of them lie 3.0 px or more from the median "
            "shift, and less than 1 px is asked for",
        ),
    ],
)
def test_sentence_says_the_reason_why_the_shift_is_not_known(found: list[BlockShift], reason: str) -> None:
    shift = judge(found)
    assert shift.verdict == "unknown"
    assert alignment(shift, moved=False) == (
        "Alignment",
        "unknown",
        f"The alignment could not be verified: {reason}. Look at both dates at a road or a shore.",
    )


def test_a_known_shift_has_no_doubt_and_each_unknown_one_has() -> None:
    assert judge(blocks((0, 0), (0, 0), bad=6)).doubt == ""
    assert judge(blocks((2, 0), (2, 0))).doubt == ""
    assert {judge(blocks(*shifts, bad=bad)).doubt for shifts, bad in (((), 0), (((0, 0),), 9))} == {
        "no block",
        "few blocks",
    }


@given(st.integers(0, 5000), st.integers(0, 5000), st.integers(0, 30), st.integers(0, 30))
def test_blocks_lie_inside_and_are_never_too_many(height: int, width: int, row: int, column: int) -> None:
    window = Window(row, column, height, width)
    found = block_windows(window)
    assert len(found) <= MOST_BLOCKS
    assert all(block.intersection(window) == block for block in found)
    assert bool(found) == (min(height, width) >= module.SMALLEST_BLOCK)


@pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:32634"])
def test_a_date_that_is_moved_back_lies_on_the_other_one(crs: str, make_raster: Callable[..., Path]) -> None:
    """The later raster's own grid says 37 m and 24 m too far: 3.7 and -2.4 pixels of the earlier one."""
    from rasterio.warp import transform

    before_CHW = texture()
    (west,), (north,) = transform("EPSG:32633", crs, [500000], [5100000])
    exact = crs == "EPSG:32633"
    before = make_raster(before_CHW, "before.tif")
    after = make_raster(before_CHW, "after.tif", crs=crs, transform=from_origin(west - 24, north - 37, 10, 10))
    found = shift_of(before, after)
    if exact:
        assert (found.down, found.right) == pytest.approx((3.7, -2.4), abs=0.051)
    back = shift_of(before, after, Pairing(down=found.down, right=found.right))
    assert back.length <= 0.1


def write_displaced(source: Path, target: Path, down: float, right: float) -> Path:
    """Write a raster whose content lies off, as 8 bits, with what came from nodata as nodata."""
    with rasterio.open(source) as dataset:
        profile, pixels_CHW = dataset.profile, dataset.read()
    missing_HW = ndimage.shift((pixels_CHW == 0).all(0).astype(np.float32), (down, right), order=1, mode="nearest") > 0
    moved_CHW = np.clip(displaced(pixels_CHW.astype(np.float32), down, right).round(), 1, 255).astype(np.uint8)
    with rasterio.open(target, "w", **profile) as dataset:
        dataset.write(np.where(missing_HW, np.uint8(0), moved_CHW))
    return target


@pytest.mark.parametrize("pair", PAIRS)
def test_shifts_between_real_dates_are_recovered(pair: str, data: Path, tmp_path: Path) -> None:
    folder, before, after = PAIRS[pair]
    at_zero = shift_of(data / folder / before, data / folder / after)
    assert at_zero.verdict == "aligned"
    for down, right in APPLIED:
        moved = write_displaced(data / folder / after, tmp_path / "after.tif", down, right)
        found = shift_of(data / folder / before, moved)
        assert found.verdict == "shifted"
        error = np.hypot(found.down - at_zero.down - down, found.right - at_zero.right - right)
        assert error <= 0.15, (down, right)


@pytest.mark.parametrize("name", ["naip_dakota/naip_west_20180716", "landsat_ucayali/landsat_ucayali_west_2000"])
@pytest.mark.parametrize("axes", [(1,), (2,), (1, 2)])
def test_mirrored_real_scenes_cannot_be_told(name: str, axes: tuple[int, ...], data: Path, tmp_path: Path) -> None:
    with rasterio.open(data / f"{name}.tif") as dataset:
        profile, pixels_CHW = dataset.profile, dataset.read()
    with rasterio.open(tmp_path / "after.tif", "w", **profile) as dataset:
        dataset.write(np.flip(pixels_CHW, axes))
    assert shift_of(data / f"{name}.tif", tmp_path / "after.tif").verdict == "unknown"
