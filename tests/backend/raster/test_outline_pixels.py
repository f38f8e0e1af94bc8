"""Pixels of polygons: those whose centre is covered, whatever the window, and both of two that overlap."""

import numpy as np
import pytest
import shapely
from affine import Affine
from rasterio.crs import CRS
from rasterio.features import rasterize
from rasterio.warp import transform_geom
from rsfm.raster.area import read_area
from rsfm.raster.grid import Grid, Window
from rsfm.raster.outline_pixels import OutlinePixels
from rsfm.raster.outlines import NO_POLYGON, NO_SHAPE, OFF_AREA, OUTSIDE, place_outlines

METRES = CRS.from_epsg(32633)
GRID = Grid(METRES, Affine(10, 0, 500000, 0, -10, 5100000), 90, 120)


def on_map(shape):
    return shapely.transform(shape, lambda at: at * [10, -10] + [500000, 5100000])


def random_shapes(seed, count):
    random = np.random.default_rng(seed)
    found = [shapely.Point(*random.uniform(-5, 125, 2)).buffer(random.uniform(3, 25), 3) for _ in range(count)]
    return np.array([shape.difference(shape.centroid.buffer(1.5)) for shape in found], object)


def pixels_of(objects, window):
    pairs = objects.find(window)
    assert (np.diff(pairs.row_M) >= 0).all()
    return sorted(zip(pairs.object_M.tolist(), pairs.row_M.tolist(), pairs.column_M.tolist(), strict=True))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("height", [90, 17, 1])
def test_pixels_are_those_that_each_polygon_has_alone(seed, height):
    shapes = random_shapes(seed, 25)
    objects = OutlinePixels(shapes, GRID)
    found = []
    for row in range(0, 90, height):
        found += pixels_of(objects, Window(row, 0, min(height, 90 - row), 120))
    expected = []
    for number, shape in enumerate(shapes):
        rows, columns = np.nonzero(rasterize([shape], (90, 120), dtype="uint8"))
        expected += [(number, row, column) for row, column in zip(rows.tolist(), columns.tolist(), strict=True)]
    assert len({(row, column) for _, row, column in expected}) < len(expected)  # some overlap
    assert sorted(found) == sorted(expected)
    for number, row, _ in expected:
        assert row < objects.end_N[number]


def test_neighbours_share_no_pixel_and_leave_none():
    random = np.random.default_rng(0)
    points = shapely.MultiPoint(random.uniform(0, 90, (40, 2)))
    cells = [cell & shapely.box(0, 0, 120, 90) for cell in shapely.voronoi_polygons(points, extend_to=points).geoms]
    objects = OutlinePixels(np.array(cells, object), GRID)
    pairs = objects.find(GRID.window)
    count_HW = np.zeros((90, 120), int)
    np.add.at(count_HW, (pairs.row_M, pairs.column_M), 1)
    inside = rasterize([shapely.union_all(cells)], (90, 120), dtype="uint8")
    assert (count_HW == inside).all()


def test_area_of_polygons_is_where_their_pixels_are():
    shapes = random_shapes(1, 5)
    objects = OutlinePixels(shapes, GRID)
    pairs = objects.find(GRID.window)
    wanted_HW = np.zeros((90, 120), bool)
    wanted_HW[pairs.row_M, pairs.column_M] = True
    assert (objects.area.inside(GRID.window) == wanted_HW).all()


def test_polygon_without_a_centre_takes_the_pixel_in_its_middle():
    shapes = np.array([on_map(shapely.box(3.1, 4.1, 3.3, 4.2)), on_map(shapely.box(8.6, 2.6, 9.45, 3.45))], object)
    outlines = place_outlines(shapes, METRES, GRID)
    assert outlines.tiny == 2
    assert pixels_of(OutlinePixels(outlines.shape_N, GRID), GRID.window) == [(0, 4, 3), (1, 3, 9)]


def test_polygon_beside_the_last_centre_takes_a_pixel_of_the_raster():
    outlines = place_outlines(np.array([on_map(shapely.box(119.7, 89.7, 150, 150))], object), METRES, GRID)
    assert pixels_of(OutlinePixels(outlines.shape_N, GRID), GRID.window) == [(0, 89, 119)]


def test_each_feature_without_pixels_has_its_reason():
    broken = shapely.Polygon([(10, 10), (30, 30), (30, 10), (10, 30)])  # crosses itself
    shapes = [
        None,
        shapely.Polygon(),
        shapely.Point(5, 5),
        shapely.box(500, 0, 510, 9),
        broken,
        shapely.box(90, 60, 99, 70),
    ]
    placed = np.array([None if shape is None else on_map(shape) for shape in shapes], object)
    area = read_area(GRID, "500000,5099500,500600,5100000")
    outlines = place_outlines(placed, METRES, GRID, area)
    assert outlines.reason_N.tolist() == [NO_SHAPE, NO_SHAPE, NO_POLYGON, OUTSIDE, "", OFF_AREA]
    assert outlines.repaired == 1
    assert shapely.area(outlines.shape_N[4]) == pytest.approx(200)


def test_pixels_beyond_the_edge_are_counted():
    outlines = place_outlines(np.array([on_map(shapely.box(-10, 80, 10, 100))], object), METRES, GRID)
    assert outlines.beyond_N[0] == pytest.approx(300)


def test_polygons_in_degrees_have_the_same_pixels():
    shapes = [on_map(shape) for shape in random_shapes(3, 12)]
    moved = [
        shapely.geometry.shape(transform_geom(METRES, "EPSG:4326", shapely.geometry.mapping(shape))) for shape in shapes
    ]
    found = [
        pixels_of(OutlinePixels(place_outlines(np.array(each, object), crs, GRID).shape_N, GRID), GRID.window)
        for each, crs in ((shapes, METRES), (moved, CRS.from_epsg(4326)))
    ]
    assert found[0] == found[1]


def test_polygon_where_the_raster_has_no_coordinates_lies_outside():
    pole = np.array([shapely.box(-179, 89.9999, 179, 90), shapely.box(15, 46.0, 15.01, 46.02)], object)
    outlines = place_outlines(pole, CRS.from_epsg(4326), GRID)
    assert outlines.reason_N[0] == OUTSIDE
