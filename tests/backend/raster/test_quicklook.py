"""A raster in small: north up, every part in its place, whatever way the file lies and however large it is."""

import time

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.enums import Resampling
from rsfm.raster.grid import Window
from rsfm.raster.quicklook import SIDE, quicklook
from rsfm.raster.reader import open_raster

WHOLE = Window(0, 0, 120, 200)
NORTH_UP = Affine(10, 0, 500000, 0, -10, 5100000)
ORIENTATIONS = {
    "north up": NORTH_UP,
    "south up": Affine(10, 0, 500000, 0, 10, 5100000),
    "oblong pixels": Affine(10, 0, 500000, 0, -20, 5100000),
}


def corners():
    """One bright pixel block in the first row and column, a dimmer one at the end of the first row."""
    pixels_CHW = np.full((1, 120, 200), 10, "uint8")
    pixels_CHW[0, :20, :20], pixels_CHW[0, :20, -20:] = 200, 100
    return pixels_CHW


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_places_of_the_raster_are_found_in_the_picture(make_raster, name):
    path = make_raster(corners(), transform=ORIENTATIONS[name])
    with open_raster(str(path)) as raster:
        look = quicklook(raster, WHOLE)
        placed_P2 = look.place(raster.grid, np.array([[10.0, 10.0], [190.0, 10.0], [100.0, 100.0]]))
    found = [look.pixels_CHW[0, int(row), int(column)] for column, row in placed_P2]
    assert found == [200, 100, 10]
    assert look.grid.transform.e < 0 < look.grid.transform.a
    assert look.complete


def test_the_picture_is_north_up(make_raster):
    path = make_raster(corners(), transform=ORIENTATIONS["south up"])
    with open_raster(str(path)) as raster:
        look = quicklook(raster, WHOLE)
    assert look.pixels_CHW[0, -1, 0] == 200  # the file's first row is the southernmost
    assert look.pixels_CHW[0, 0, 0] == 10


def test_degrees_are_drawn_as_wide_as_they_are_on_the_ground(make_raster):
    path = make_raster(np.ones((1, 100, 100), "uint8"), crs="EPSG:4326", transform=Affine(1e-4, 0, 10, 0, -1e-4, 60))
    with open_raster(str(path)) as raster:
        look = quicklook(raster, Window(0, 0, 100, 100))
    assert look.grid.width / look.grid.height == pytest.approx(0.5, rel=0.03)  # the cosine of 60 degrees


@pytest.mark.parametrize("overviews", [False, True])
def test_a_large_raster_is_drawn_in_small_with_its_edges(make_raster, overviews):
    pixels_CHW = np.full((1, 1801, 2403), 50, "uint8")
    pixels_CHW[0, -60:], pixels_CHW[0, :, -60:] = 150, 250
    path = make_raster(pixels_CHW, tiled=True)
    if overviews:
        with rasterio.open(path, "r+") as file:
            file.build_overviews([2, 4], Resampling.nearest)
    with open_raster(str(path)) as raster:
        look = quicklook(raster, Window(0, 0, 1801, 2403))
    assert max(look.grid.height, look.grid.width) <= SIDE
    assert look.valid_HW.all()
    assert look.pixels_CHW[0, 0, 0] == 50
    assert look.pixels_CHW[0, -1, 0] == 150
    assert (look.pixels_CHW[0, :, -1] == 250).all()


def test_a_part_of_a_raster_is_drawn_alone(make_raster):
    path = make_raster(corners())
    with open_raster(str(path)) as raster:
        look = quicklook(raster, Window(0, 100, 60, 100))
        placed_P2 = look.place(raster.grid, np.array([[190.0, 10.0]]))
    assert (look.grid.height, look.grid.width) == (60, 100)
    assert look.pixels_CHW[0, int(placed_P2[0, 1]), int(placed_P2[0, 0])] == 100


def test_nodata_is_not_valid_whoever_tells_of_it(make_raster):
    pixels_CHW = np.full((2, 50, 50), 7, "int16")
    pixels_CHW[:, :10], pixels_CHW[:, 20:30] = -1, 9
    path = make_raster(pixels_CHW, nodata=-1)
    with open_raster(str(path)) as raster:
        look = quicklook(raster, Window(0, 0, 50, 50), nodata=9.0)
    expected_HW = np.ones((50, 50), bool)
    expected_HW[:10], expected_HW[20:30] = False, False
    assert np.array_equal(look.valid_HW, expected_HW)


def test_what_is_not_read_in_time_is_said(make_raster):
    path = make_raster(corners())
    with open_raster(str(path)) as raster:
        look = quicklook(raster, WHOLE, until=time.monotonic() - 1)
    assert not look.complete
    assert not look.valid_HW.any()
