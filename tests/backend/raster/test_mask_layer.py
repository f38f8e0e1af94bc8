import numpy as np
import pytest
from rasterio.transform import from_origin
from rasterio.warp import transform
from rsfm.errors import UserError
from rsfm.raster.grid import Grid, Window
from rsfm.raster.mask_layer import MaskLayer
from rsfm.raster.reader import open_raster


def left_out(path, masked, grid, window):
    with MaskLayer(str(path), masked, "rasters") as mask:
        return mask.left_out(grid, window)


def test_a_mask_on_the_same_grid_is_its_values(make_raster):
    values = np.random.default_rng(0).integers(0, 5, (1, 40, 60)).astype(np.uint8)
    with open_raster(str(make_raster(np.zeros((1, 40, 60), np.uint8), "pixels.tif"))) as raster:
        found = left_out(make_raster(values, "mask.tif"), (2, 4), raster.grid, Window(5, 7, 20, 30))
    np.testing.assert_array_equal(found, np.isin(values[0], (2, 4))[5:25, 7:37])


def test_a_coarser_mask_covers_the_pixels_under_it_and_says_nothing_outside(make_raster):
    values = np.array([[[1, 0], [0, 1]]], np.uint8)
    mask = make_raster(values, "mask.tif", transform=from_origin(500000, 5100000, 40, 20))
    grid = Grid(None, from_origin(500000, 5100000, 10, 10), 6, 10)
    expected = np.zeros((6, 10), bool)
    expected[:2, :4] = expected[2:4, 4:8] = True
    np.testing.assert_array_equal(left_out(mask, [1], grid, grid.window), expected)
    far = Window(100, 100, 3, 4)
    np.testing.assert_array_equal(left_out(mask, [1], grid, far), np.zeros((3, 4), bool))


def test_a_mask_in_another_crs_is_looked_up_at_the_centre_of_each_pixel(make_raster):
    values = np.random.default_rng(1).integers(0, 2, (1, 50, 70)).astype(np.uint8)
    shape = from_origin(15.0, 46.05, 0.0005, 0.0004)
    mask = make_raster(values, "mask.tif", crs="EPSG:4326", transform=shape)
    pixels = make_raster(np.zeros((1, 90, 80), np.uint8), "p.tif", transform=from_origin(499900, 5100000, 30, 30))
    with open_raster(str(pixels)) as raster:
        found = left_out(mask, [1], raster.grid, raster.grid.window)
        for row, column in [(0, 0), (10, 50), (40, 3), (61, 79), (89, 20)]:
            place = raster.grid.transform @ (column + 0.5, row + 0.5)
            x, y = (value[0] for value in transform(raster.grid.crs, "EPSG:4326", [place[0]], [place[1]]))
            at = int((46.05 - y) // 0.0004), int((x - 15.0) // 0.0005)
            inside = 0 <= at[0] < 50 and 0 <= at[1] < 70
            assert found[row, column] == (inside and values[0][at] == 1)
    assert found.any()


def test_a_missing_mask_is_a_sentence():
    with pytest.raises(UserError, match=r"'no.tif' does not exist") as caught:
        MaskLayer("no.tif", [1], "rasters")
    assert caught.value.field == "rasters"
