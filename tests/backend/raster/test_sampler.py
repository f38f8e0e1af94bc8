from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from rsfm.errors import UserError
from rsfm.raster.grid import Window
from rsfm.raster.reader import open_raster
from rsfm.raster.sampler import WindowSampler


@pytest.fixture
def opened(make_raster):
    rasters = []

    def open_pixels(pixels, name="a.tif", **profile):
        rasters.append(open_raster(str(make_raster(pixels, name, **profile)), "rasters"))
        return rasters[-1]

    yield open_pixels
    for raster in rasters:
        raster.close()


def coordinates(height=60, width=50):
    return np.stack(np.mgrid[:height, :width]).astype(np.uint16) + 1


@pytest.mark.parametrize("memory", [0, 10**9])
def test_windows_are_cut_from_the_raster_where_it_is_valid(opened, memory):
    pixels = coordinates()
    pixels[:, 20:30, 10:40] = 0
    sampler = WindowSampler([opened(pixels, nodata=0)], 8, memory=memory)
    pixels_NCHW, valid_NHW, gsd_N = sampler.batch(0, 50)
    assert pixels_NCHW.dtype == np.float32
    assert (gsd_N == 10).all()
    for pixels_CHW, valid_HW in zip(pixels_NCHW, valid_NHW, strict=True):
        rows, columns = np.nonzero(valid_HW)
        row = int(pixels_CHW[0, rows[0], columns[0]]) - 1 - rows[0]
        column = int(pixels_CHW[1, rows[0], columns[0]]) - 1 - columns[0]
        np.testing.assert_array_equal(pixels_CHW, pixels[:, row : row + 8, column : column + 8])
        np.testing.assert_array_equal(valid_HW, pixels_CHW[0] > 0)
        assert valid_HW.mean() >= 0.9


def test_a_batch_depends_on_seed_and_index_alone(opened):
    raster = opened(coordinates())
    sampler = WindowSampler([raster], 8, seed=3)
    expected = [sampler.batch(index, 5)[0] for index in range(20)]
    again = WindowSampler([raster], 8, seed=3, memory=0)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda index: again.batch(index, 5)[0], reversed(range(20))))[::-1]
    np.testing.assert_array_equal(found, expected)
    assert not np.array_equal(expected[0], expected[1])
    assert not np.array_equal(WindowSampler([raster], 8, seed=4).batch(0, 5)[0], expected[0])


def test_every_position_is_drawn_and_none_more_often_than_chance(opened):
    sampler = WindowSampler([opened(coordinates(12, 11))], 8)
    pixels_NCHW = sampler.batch(0, 4000)[0]
    counts = np.zeros((5, 4))
    for row, column in pixels_NCHW[:, :, 0, 0].astype(int) - 1:
        counts[row, column] += 1
    assert counts.min() > 120
    assert counts.max() < 290


@pytest.mark.parametrize("memory", [0, 10**9])
def test_rasters_are_drawn_by_their_valid_area(opened, memory):
    large, small = np.full((1, 200, 200), 1, np.uint8), np.full((1, 100, 100), 2, np.uint8)
    large[:, :, 100:] = 0
    rasters = [opened(large, "large.tif", nodata=0), opened(small, "small.tif", nodata=0)]
    values = WindowSampler(rasters, 16, memory=memory).batch(0, 1500)[0].max(axis=(1, 2, 3))
    assert (values == 1).mean() == pytest.approx(2 / 3, abs=0.05 if memory else 0.1)


@pytest.mark.parametrize("memory", [0, 10**9])
def test_windows_stay_inside_their_area(opened, memory):
    sampler = WindowSampler([opened(coordinates())], 8, [Window(10, 20, 9, 12)], memory=memory)
    pixels_NCHW = sampler.batch(0, 60)[0] - 1
    assert (pixels_NCHW[:, 0].min(), pixels_NCHW[:, 0].max()) == (10, 18)
    assert (pixels_NCHW[:, 1].min(), pixels_NCHW[:, 1].max()) == (20, 31)


def test_too_much_nodata_says_how_much_is_valid(opened):
    pixels = coordinates()
    pixels[:, ::2] = 0
    sampler = WindowSampler([opened(pixels, nodata=0)], 8)
    with pytest.raises(UserError, match=r"Only 50.0% of the pixels of 'a.tif' are valid") as caught:
        sampler.batch(0, 1)
    assert caught.value.field == "window"


def test_a_raster_or_an_area_smaller_than_a_window_is_said(opened):
    raster = opened(coordinates())
    with pytest.raises(UserError, match=r"'a.tif' is 60 x 50 px, smaller than a window of 51 px") as caught:
        WindowSampler([raster], 51)
    assert caught.value.field == "rasters"
    with pytest.raises(UserError, match="draw a larger 'Area'") as caught:
        WindowSampler([raster], 16, [Window(0, 0, 60, 15)])
    assert caught.value.field == "area"
    WindowSampler([raster], 50).batch(0, 1)


@pytest.mark.parametrize("memory", [0, 10**9])
def test_a_raster_of_nodata_is_refused_at_once(opened, memory):
    with pytest.raises(UserError, match=r"no valid pixel|no pixel other than nodata"):
        WindowSampler([opened(np.zeros((1, 40, 40), np.uint8), nodata=0)], 8, memory=memory)


def test_different_numbers_of_bands_name_both_rasters(opened):
    rasters = [opened(coordinates(), "two.tif"), opened(coordinates()[:1], "one.tif")]
    with pytest.raises(UserError, match=r"'two.tif' has 2 bands but 'one.tif' has 1"):
        WindowSampler(rasters, 8)
