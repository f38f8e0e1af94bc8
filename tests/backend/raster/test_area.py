"""An area is a rectangle or polygons, and means the same pixels however it is given."""

import numpy as np
import pyogrio
import pytest
import shapely
from affine import Affine
from rasterio.crs import CRS
from rasterio.features import geometry_mask
from rasterio.warp import transform_geom
from rsfm.errors import UserError
from rsfm.raster.area import read_area
from rsfm.raster.grid import Grid, Window

GRID = Grid(CRS.from_epsg(32633), Affine(10, 0, 500000, 0, -10, 5100000), 120, 90)
POLYGON = shapely.Polygon([(500103, 5099897), (500604, 5099702), (500402, 5099204), (500151, 5099333)])
SECOND = shapely.box(500701, 5099001, 500822, 5099114)


def burnt(*shapes):
    return geometry_mask(shapes, (GRID.height, GRID.width), GRID.transform, invert=True)


def write(path, shapes, crs="EPSG:32633"):
    names = np.array([f"{number}" for number in range(len(shapes))], object)
    pyogrio.raw.write(path, shapely.to_wkb(shapes), [names], ["name"], geometry_type="Unknown", crs=crs)
    return str(path)


def test_nothing_and_four_numbers_are_rectangles():
    assert read_area(GRID, None) == (GRID.window, None)
    assert read_area(GRID, "500100, 5099800, 500200, 5099900") == (Window(10, 10, 10, 10), None)


def test_text_and_file_in_any_crs_ask_for_the_pixels_whose_centre_they_cover(tmp_path):
    expected = burnt(POLYGON, SECOND)
    text = shapely.MultiPolygon([POLYGON, SECOND]).wkt
    geometry = shapely.geometry.mapping(shapely.from_wkt(text))
    degrees = shapely.geometry.shape(transform_geom("EPSG:32633", "EPSG:4326", geometry)).wkt
    file = write(tmp_path / "area.gpkg", [POLYGON, SECOND])
    for area in (text, f"SRID=4326;{degrees}", file, f"{file}|layername=area"):
        found = read_area(GRID, area)
        np.testing.assert_array_equal(found.inside(GRID.window), expected)
        rows, columns = np.nonzero(expected)
        window = found.window
        assert window.row <= rows.min() <= rows.max() < window.row + window.height
        assert window.column <= columns.min() <= columns.max() < window.column + window.width
    np.testing.assert_array_equal(read_area(GRID, f"{file}|subset=name = '1'").inside(GRID.window), burnt(SECOND))


def test_any_window_sees_its_part(tmp_path):
    found = read_area(GRID, POLYGON.wkt)
    expected = burnt(POLYGON)
    for row in range(0, 120, 17):
        for column in range(0, 90, 23):
            window = Window(row, column, 17, 23).intersection(GRID.window)
            part = expected[row : row + 17, column : column + 23]
            np.testing.assert_array_equal(found.inside(window), part)


@pytest.mark.parametrize(
    ("area", "words"),
    [
        ("POLYGON ((0 0, 1 0, 1 1, 0 0))", "hold no pixel"),
        ("POLYGON ((500101 5099899, 500102 5099899, 500102 5099898, 500101 5099899))", "hold no pixel"),
        ("POLYGON ((500100", "not understood"),
        ("MULTIPOLYGON EMPTY", "hold no pixel"),
        ("SRID=999999;POLYGON ((0 0, 1 0, 1 1, 0 0))", "not understood"),
        ("nowhere.gpkg", "does not exist"),
        ("1,2,3", "not understood"),
    ],
)
def test_what_cannot_be_used_is_said_with_the_control(area, words):
    with pytest.raises(UserError, match=words) as caught:
        read_area(GRID, area)
    assert caught.value.field == "area"
    assert "'Area'" in str(caught.value)


def test_a_file_without_polygons_is_refused(tmp_path):
    with pytest.raises(UserError, match="holds no polygon"):
        read_area(GRID, write(tmp_path / "points.gpkg", [shapely.Point(500100, 5099900)]))
