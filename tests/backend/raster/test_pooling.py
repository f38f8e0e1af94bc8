"""Pooling over objects row by row gives what the whole array in memory gives."""

import numpy as np
import pytest
import shapely
from affine import Affine
from rasterio.features import rasterize
from rsfm.raster.area import Area, read_area
from rsfm.raster.grid import Grid
from rsfm.raster.outline_pixels import OutlinePixels
from rsfm.raster.pooling import Pooled, Pooling
from rsfm.raster.tile_objects import TileObjects

HEIGHT, WIDTH, VALUES = 131, 97, 5
GRID = Grid(None, Affine(10, 0, 500000, 0, -10, 5100000), HEIGHT, WIDTH)


def scene(seed, stride):
    random = np.random.default_rng(seed)
    shape = (VALUES, -(-HEIGHT // stride), -(-WIDTH // stride))
    valid_HW = random.random((HEIGHT, WIDTH)) > 0.1
    valid_HW[40:80, 20:60] = False
    return random.normal(3, 2, shape).astype("float32"), valid_HW


def polygons(seed):
    random = np.random.default_rng(seed)
    found = [shapely.Point(*random.uniform(0, 97, 2)).buffer(random.uniform(2, 20), 2) for _ in range(20)]
    return np.array([*found, None, shapely.box(25, 45, 50, 70), shapely.box(0, 0, 97, 131)], object)


def pool(objects, values_Khw, valid_HW, stride, heights, stop=None, state=None):
    """Pool in pieces; returns what is done and the state at a row."""
    done = []
    pooling = Pooling(objects, VALUES, stride, done.append)
    if state is not None:
        pooling.go_on(**state)
    cells = objects.area.window.cells(stride)
    padded_HW = np.zeros(((cells.row + cells.height) * stride, (cells.column + cells.width) * stride), bool)
    padded_HW[:HEIGHT, :WIDTH] = valid_HW[: padded_HW.shape[0], : padded_HW.shape[1]]
    while pooling.row < cells.height and (stop is None or pooling.row < stop):
        rows = min(next(heights), cells.height - pooling.row)
        window = pooling.pixels(pooling.row, rows)
        top = cells.row + pooling.row
        part = values_Khw[:, top : top + rows, cells.column : cells.column + cells.width]
        at = slice(window.row, window.row + window.height), slice(window.column, window.column + window.width)
        pooling.add(part, padded_HW[at])
    return done, pooling.state()


def pieces(seed):
    random = np.random.default_rng(seed)
    while True:
        yield int(random.integers(1, 12))


def slow(mask_HW, values_Khw, valid_HW, stride):
    """Mean and deviation over the valid pixels of an object, each with the values of its cell."""
    whole_KHW = np.repeat(np.repeat(values_Khw, stride, 1), stride, 2)[:, :HEIGHT, :WIDTH].astype("float64")
    chosen_KN = whole_KHW[:, mask_HW & valid_HW]
    if not chosen_KN.shape[1]:
        return mask_HW.sum(), 0, None, None
    return mask_HW.sum(), chosen_KN.shape[1], chosen_KN.mean(axis=1), chosen_KN.std(axis=1)


def check(pooled, masks, values_Khw, valid_HW, stride):
    by_object = {}
    for part in pooled:
        for at, number in enumerate(part.object_J.tolist()):
            assert number not in by_object
            by_object[number] = part.take(np.array([at]))
    assert set(by_object) == set(masks)
    for number, mask_HW in masks.items():
        found: Pooled = by_object[number]
        pixels, valid, mean_K, std_K = slow(mask_HW, values_Khw, valid_HW, stride) if mask_HW.any() else (0, 0, 0, 0)
        assert (found.pixels_J[0], found.valid_J[0]) == (pixels, valid)
        if valid:
            np.testing.assert_allclose(found.mean_JK[0], mean_K, atol=1e-9)
            np.testing.assert_allclose(found.std_JK[0], std_K, atol=1e-6)
        else:
            assert np.isnan(found.mean_JK).all()


@pytest.mark.parametrize("stride", [1, 4, 16])
@pytest.mark.parametrize("seed", range(3))
def test_polygons_pool_to_what_the_whole_array_gives(monkeypatch, stride, seed):
    monkeypatch.setattr("rsfm.raster.pooling.PAIRS", 97 * 13)
    values_Khw, valid_HW = scene(seed, stride)
    shapes = polygons(seed)
    masks = {
        number: rasterize([shape], (HEIGHT, WIDTH), dtype="uint8") > 0
        for number, shape in enumerate(shapes)
        if shape is not None
    }
    done, _ = pool(OutlinePixels(shapes, GRID), values_Khw, valid_HW, stride, pieces(seed))
    check(done, masks, values_Khw, valid_HW, stride)
    assert len(done) > 2 or stride == 16  # objects are handed over on the way


@pytest.mark.parametrize(("stride", "side"), [(1, 16), (4, 16), (4, 10), (16, 50), (4, 200)])
def test_tiles_pool_to_what_the_whole_array_gives(stride, side):
    values_Khw, valid_HW = scene(0, stride)
    objects = TileObjects(GRID, side, Area(GRID.window))
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    number_HW = rows // side * -(-WIDTH // side) + columns // side
    masks = {int(number): number_HW == number for number in np.unique(number_HW)}
    done, _ = pool(objects, values_Khw, valid_HW, stride, pieces(1))
    check(done, masks, values_Khw, valid_HW, stride)
    beyond = objects.beyond()
    for number, mask_HW in masks.items():
        assert mask_HW.sum() + beyond[number] == side**2


def test_tiles_of_an_area_are_whole_tiles_of_the_raster():
    stride, side = 4, 10
    values_Khw, valid_HW = scene(0, stride)
    area = read_area(GRID, "POLYGON((500210 5099790, 500450 5099790, 500450 5099550, 500210 5099790))")
    objects = TileObjects(GRID, side, area)
    assert 0 < objects.wanted_RT.sum() < objects.wanted_RT.size
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    masks = {}
    for number in range(objects.wanted_RT.size):
        row, column = divmod(number, objects.tiles.width)
        mask_HW = (rows // side == row + objects.tiles.row) & (columns // side == column + objects.tiles.column)
        masks[number] = mask_HW & objects.wanted_RT[row, column]
    done, _ = pool(objects, values_Khw, valid_HW, stride, pieces(1))
    check(done, masks, values_Khw, valid_HW, stride)


@pytest.mark.parametrize("stop", [1, 9, 20, 32])
def test_going_on_from_a_row_gives_the_same_bits(stop):
    values_Khw, valid_HW = scene(2, 4)
    objects = OutlinePixels(polygons(2), GRID)
    whole, _ = pool(objects, values_Khw, valid_HW, 4, iter([1] * 99))
    first, state = pool(objects, values_Khw, valid_HW, 4, iter([1] * 99), stop=stop)
    rest, _ = pool(objects, values_Khw, valid_HW, 4, iter([1] * 99), state=state)
    assert sorted(number for part in [*first, *rest] for number in part.object_J.tolist()) == sorted(
        number for part in whole for number in part.object_J.tolist()
    )
    expected = {number: row for part in whole for number, row in zip(part.object_J.tolist(), part.mean_JK, strict=True)}
    for part in [*first, *rest]:
        for number, mean_K in zip(part.object_J.tolist(), part.mean_JK, strict=True):
            np.testing.assert_array_equal(mean_K, expected[number])


def test_only_open_objects_are_held():
    shapes = np.array([shapely.box(10, row, 20, row + 3) for row in range(0, 120, 4)], object)
    objects = OutlinePixels(shapes, GRID)
    values_Khw, valid_HW = scene(0, 1)
    for stop in (20, 60, 100):
        _, state = pool(objects, values_Khw, valid_HW, 1, iter([1] * 200), stop=stop)
        assert len(state["object_J"]) <= 1
