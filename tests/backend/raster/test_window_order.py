import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin
from rsfm.raster.grid import Window
from rsfm.raster.reader import open_raster
from rsfm.raster.window_order import mixed_order

SIDE, SIZE = 8192, 224


@pytest.mark.parametrize("layout", [{"tiled": True, "blockxsize": 512, "blockysize": 512}, {"blockysize": 1}])
@pytest.mark.parametrize("rasters", [1, 3])
def test_windows_read_together_share_blocks_in_the_order_given(tmp_path, layout, rasters):
    opened = [open_raster(str(sparse(tmp_path / f"{number}.tif", layout))) for number in range(rasters)]
    random = np.random.default_rng(0)
    count, ahead = rasters * round(SIDE**2 / SIZE**2), 512
    places = [
        (opened[number], Window(row, column, SIZE, SIZE))
        for number, row, column in random.integers(0, (rasters, SIDE - SIZE, SIDE - SIZE), (count, 3)).tolist()
    ]
    order = mixed_order(places, ahead, seed=1)
    assert sorted(order.tolist()) == list(range(count))
    np.testing.assert_array_equal(order, mixed_order(places, ahead, seed=1))
    assert not np.array_equal(order, mixed_order(places, ahead, seed=2))
    assert decoded([places[index] for index in order], ahead) < 1.5 * rasters * SIDE**2
    assert decoded(places, ahead) > 1.5 * decoded([places[index] for index in order], ahead)
    for raster in opened:
        raster.close()


def sparse(path, layout):
    shape = {"count": 1, "height": SIDE, "width": SIDE, "dtype": "uint8", "crs": "EPSG:32633"}
    transform = from_origin(500000, 5100000, 10, 10)
    rasterio.open(path, "w", driver="GTiff", sparse_ok=True, transform=transform, **shape, **layout).close()
    return path


def decoded(places, ahead):
    """Return how many pixels are decoded when nothing is kept between two readings."""
    total = 0
    for first in range(0, len(places), ahead):
        together = {
            (raster, cell)
            for raster, window in places[first : first + ahead]
            for cell in raster.cells().touched(window)
        }
        for raster, cell in together:
            window = raster.cells().window(*cell)
            total += window.height * window.width
    return total


def test_no_windows_have_no_order():
    assert len(mixed_order([], 8, seed=0)) == 0
