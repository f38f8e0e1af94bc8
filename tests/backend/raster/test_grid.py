import math

import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from rasterio.crs import CRS
from rsfm.errors import UserError
from rsfm.raster.grid import Grid, Window, parse_area

UTM = CRS.from_epsg(32633)
NORTH_UP = Grid(UTM, Affine(10, 0, 500000, 0, -10, 5000000), 300, 200)
SOUTH_UP = Grid(UTM, Affine(10, 0, 500000, 0, 10, 4997000), 300, 200)


def test_the_gsd_of_a_projected_grid_is_its_pixel_in_metres():
    assert NORTH_UP.gsd == pytest.approx(10)
    assert SOUTH_UP.pixel_area == pytest.approx(100)


def test_feet_are_turned_into_metres():
    grid = Grid(CRS.from_epsg(2263), Affine(10, 0, 0, 0, -10, 0), 10, 10)
    assert grid.gsd == pytest.approx(10 * 1200 / 3937)


def test_pixels_that_are_not_square_have_the_geometric_mean_as_gsd():
    grid = NORTH_UP._replace(transform=Affine(4, 0, 0, 0, -9, 0))
    assert grid.gsd == pytest.approx(6)
    assert grid.pixel_area == pytest.approx(36)


@pytest.mark.parametrize(("latitude", "east", "north"), [(0, 111320, 110574), (45, 78847, 111132), (60, 55800, 111412)])
def test_a_degree_has_its_length_at_the_latitude(latitude, east, north):
    grid = Grid(CRS.from_epsg(4326), Affine(0.001, 0, 10, 0, -0.001, latitude + 0.05), 100, 100)
    assert grid.pixel_area == pytest.approx(east * north * 1e-6, rel=2e-4)


def test_a_rotated_pixel_keeps_its_area():
    grid = NORTH_UP._replace(transform=Affine.rotation(30) @ Affine.scale(3, -3))
    assert grid.gsd == pytest.approx(3)


def test_bounds_do_not_depend_on_which_side_is_up():
    assert NORTH_UP.bounds == SOUTH_UP.bounds == (500000, 4997000, 502000, 5000000)


def test_a_crop_begins_at_the_corner_of_its_window():
    crop = NORTH_UP.crop(Window(30, 20, 5, 7))
    assert crop.transform @ (0, 0) == NORTH_UP.transform @ (20, 30)
    assert (crop.height, crop.width) == (5, 7)


@given(factor=st.integers(1, 40))
def test_a_shrunk_grid_covers_the_same_ground_from_the_same_corner(factor):
    small = NORTH_UP.shrink(factor)
    assert small.transform @ (0, 0) == NORTH_UP.transform @ (0, 0)
    assert small.gsd == pytest.approx(10 * factor)
    assert (small.height, small.width) == (math.ceil(300 / factor), math.ceil(200 / factor))


@given(row=st.integers(0, 99), height=st.integers(1, 99), stride=st.integers(1, 9))
def test_cells_are_those_that_a_window_touches(row, height, stride):
    cells = Window(row, 0, height, 1).cells(stride)
    touched = {pixel // stride for pixel in range(row, row + height)}
    assert set(range(cells.row, cells.row + cells.height)) == touched


@pytest.mark.parametrize("grid", [NORTH_UP, SOUTH_UP])
@given(row=st.integers(0, 290), column=st.integers(0, 190), height=st.integers(1, 300), width=st.integers(1, 200))
def test_an_area_on_pixel_borders_gives_these_pixels(grid, row, column, height, width):
    window = Window(row, column, height, width).intersection(grid.window)
    assert parse_area(grid, ",".join(repr(value) for value in grid.crop(window).bounds)) == window


def test_an_area_takes_every_pixel_it_touches_and_is_cut_to_the_raster():
    assert parse_area(NORTH_UP, "500015,4999975,500035,4999995") == Window(0, 1, 3, 3)
    assert parse_area(NORTH_UP, "400000,4000000,500015,6000000") == Window(0, 0, 300, 2)
    assert parse_area(NORTH_UP, "500011,4999991,500012,4999992") == Window(0, 1, 1, 1)


def test_no_area_is_the_whole_raster():
    assert parse_area(NORTH_UP, None) == NORTH_UP.window


@pytest.mark.parametrize(
    "area", ["1,2,3", "a,b,c,d", "1,2,3,4,5", "502000,4997000,500000,5000000", "nan,0,1,1", "0,0,inf,1"]
)
def test_an_area_that_is_no_rectangle_is_refused(area):
    with pytest.raises(UserError, match="west,south,east,north") as caught:
        parse_area(NORTH_UP, area)
    assert caught.value.field == "area"


@pytest.mark.parametrize("area", ["10.1,45.1,10.2,45.2", "502000,4997000,503000,5000000"])
def test_an_area_outside_names_both_rectangles(area):
    with pytest.raises(UserError, match=r"outside the raster .500000, 4997000, 502000, 5000000") as caught:
        parse_area(NORTH_UP, area)
    assert caught.value.field == "area"
