"""Places in small: the right pixels, whatever grid and overviews, in bounded memory and time."""

import time
import tracemalloc

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.enums import Resampling
from rsfm.differences.shown_dates import ShownDates
from rsfm.raster.grid import Grid
from rsfm.raster.reader import Raster, open_raster
from rsfm.raster.thumbnail import read_small, shifted_into, small_grid, square_around

GSD = 10


def ramp(height: int, width: int) -> np.ndarray:
    """Draw two bands whose values tell row and column."""
    row_HW, column_HW = np.mgrid[:height, :width].astype(np.float32)
    return np.stack([row_HW, column_HW])


def bounds_of(row: int, column: int, height: int, width: int) -> tuple[float, float, float, float]:
    west, north = 500000 + column * GSD, 5100000 - row * GSD
    return west, north - height * GSD, west + width * GSD, north


def test_a_small_place_is_shown_with_the_pixels_of_the_file(make_raster):
    pixels_CHW = ramp(90, 120)
    with open_raster(str(make_raster(pixels_CHW))) as raster:
        square = square_around(raster.grid, bounds_of(30, 40, 7, 11), 1.5, 24)
        small = small_grid(raster.grid, square, 64)
        found = read_small(raster, small)
    assert (small.height, small.width) == (24, 24)
    assert found.complete
    row, column = int(found.pixels_CHW[0, 0, 0]), int(found.pixels_CHW[1, 0, 0])
    np.testing.assert_array_equal(found.pixels_CHW, pixels_CHW[:, row : row + 24, column : column + 24])
    assert abs(row + 12 - 33.5) <= 1  # the place is in the middle
    assert abs(column + 12 - 45.5) <= 1


@pytest.mark.parametrize("overviews", [[], [2, 4, 8]])
def test_a_large_place_is_averaged_over_its_pixels(make_raster, overviews):
    pixels_CHW = ramp(512, 512) + np.random.default_rng(0).normal(size=(2, 512, 512)).astype(np.float32)
    path = make_raster(pixels_CHW, tiled=True, blockxsize=128, blockysize=128)
    if overviews:
        with rasterio.open(path, "r+") as dataset:
            dataset.build_overviews(overviews, Resampling.average)
    side = 64 if overviews else 128
    with open_raster(str(path)) as raster:
        found = read_small(raster, small_grid(raster.grid, raster.grid.bounds, side))
    step = 512 // side
    expected_CHW = pixels_CHW.reshape(2, side, step, side, step).mean((2, 4))
    np.testing.assert_allclose(found.pixels_CHW, expected_CHW, atol=1e-2)
    assert found.complete


def test_a_huge_place_without_overviews_takes_little_memory_and_shows_the_right_pixels(make_raster):
    side = 4096
    path = make_raster(ramp(side, side))
    with open_raster(str(path)) as raster:
        small = small_grid(raster.grid, raster.grid.bounds, 128)
        tracemalloc.start()
        found = read_small(raster, small)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 8 * 2**20  # all of it takes 128 MiB
    assert found.complete
    expected = (np.arange(128) + 0.5) * side / 128
    np.testing.assert_allclose(found.pixels_CHW[0, :, 5], expected, atol=1)
    np.testing.assert_allclose(found.pixels_CHW[1, 5], expected, atol=1)


class Slow(Raster):
    """A raster on a slow disk."""

    def _read_inside(self, *given) -> None:
        time.sleep(0.01)
        super()._read_inside(*given)


def test_a_place_that_takes_too_long_is_shown_whole_in_coarse_lines(make_raster):
    path = str(make_raster(ramp(1024, 1024)))
    with Slow(path, rasterio.open(path)) as raster:
        small = small_grid(raster.grid, raster.grid.bounds, 128)
        found = read_small(raster, small, time.monotonic() + 0.2)
        nothing = read_small(raster, small, time.monotonic() - 1)
    assert not found.complete
    assert found.valid_HW.all()
    rows = np.unique(found.pixels_CHW[0, :, 0])
    assert 4 <= len(rows) <= 21
    assert np.diff(rows).max() <= 1024 / 2  # none of them stands for more than a half
    assert not nothing.complete
    assert not nothing.valid_HW.any()


def test_an_earlier_date_on_a_slow_disk_leaves_time_for_the_later_one(make_raster):
    pixels_CHW = np.stack([*ramp(1024, 1024), ramp(1024, 1024)[0]])
    paths = [str(make_raster(pixels_CHW, name)) for name in ("before.tif", "after.tif")]
    with Slow(paths[0], rasterio.open(paths[0])) as before, Slow(paths[1], rasterio.open(paths[1])) as after:
        dates = ShownDates(before, after, ("a", "b", "c"), True)
        small = small_grid(before.grid, before.grid.bounds, 128)
        colours, complete = dates.draw(small, time.monotonic() + 0.4)
    assert not complete
    assert all(colours_CHW.std() > 50 for colours_CHW in colours)


def test_pixels_in_degrees_become_square_on_the_ground_and_south_up_is_turned(make_raster):
    step = 1e-4
    path = make_raster(ramp(200, 200), crs="EPSG:4326", transform=Affine(step, 0, 10, 0, step, 60))
    with open_raster(str(path)) as raster:
        small = small_grid(raster.grid, square_around(raster.grid, raster.grid.bounds, 1, 1), 64)
        found = read_small(raster, small)
    down, across = small.pixel_sides
    assert across == pytest.approx(down, rel=1e-3)
    shown = found.valid_HW.nonzero()
    assert np.ptp(shown[1]) + 1 == pytest.approx(32, abs=2)  # at 60 degrees a degree east is half of one north
    rows = found.pixels_CHW[0][:, 32]
    assert rows[2] > rows[-2]  # the last row of the file is the northernmost


@pytest.mark.parametrize(
    ("bounds", "moved"),
    [
        ((-5, 10, 5, 20), (0, 10, 10, 20)),
        ((95, 95, 105, 105), (90, 90, 100, 100)),
        ((40, 40, 60, 60), (40, 40, 60, 60)),
        ((-80, 0, 120, 50), (-50, 0, 150, 50)),
    ],
)
def test_a_picture_is_moved_into_the_raster_as_far_as_it_fits(bounds, moved):
    assert shifted_into(bounds, (0, 0, 100, 100)) == moved


def test_a_place_beyond_the_raster_is_not_valid(make_raster):
    with open_raster(str(make_raster(ramp(50, 50)))) as raster:
        grid = Grid(raster.grid.crs, raster.grid.transform @ Affine.translation(-10, -10), 30, 30)
        found = read_small(raster, grid)
    assert not found.valid_HW[:10].any()
    assert not found.valid_HW[:, :10].any()
    assert found.valid_HW[10:, 10:].all()
