from contextlib import ExitStack

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.enums import ColorInterp
from rasterio.transform import from_origin
from rasterio.warp import Resampling, reproject, transform
from rsfm.raster import pair_sample as pair_sample_module
from rsfm.raster.grid import Window
from rsfm.raster.pair import open_pair
from rsfm.raster.pair_sample import take_sample
from rsfm.raster.reader import open_raster
from rsfm.raster.resampled import Resampled
from rsfm.raster.smoothing import MARGIN, RADIUS, move, smooth, smooth_and_beside, smooth_each
from scipy import ndimage

UTM = {"crs": "EPSG:32633", "transform": from_origin(500000, 5100000, 10, 10)}


def surface(height=60, width=80, bands=2):
    """A smooth surface, on which bilinear interpolation is nearly exact."""
    rows, columns = np.indices((height, width))
    bands_CHW = [100 + 20 * np.sin(rows / 9 + band) + 0.5 * columns for band in range(bands)]
    return np.array(bands_CHW, np.float32)


@pytest.fixture
def resampled(make_raster):
    """Show pixels of one grid on another grid; both close with the test."""
    with ExitStack() as stack:

        def show(pixels_CHW, profile, on=UTM, shape=(60, 80), **more):
            source = stack.enter_context(open_raster(str(make_raster(pixels_CHW, "source.tif", **{**profile, **more}))))
            target = stack.enter_context(open_raster(str(make_raster(np.ones((1, *shape), "uint8"), "on.tif", **on))))
            return Resampled(source, target.grid)

        yield show


def test_a_grid_shifted_by_whole_pixels_gives_the_pixels_of_the_file(resampled):
    pixels_CHW = np.random.default_rng(0).random((2, 60, 80)).astype(np.float32)
    found = resampled(pixels_CHW, {"transform": from_origin(500030, 5099950, 10, 10)})
    found_CHW, valid_HW = found.read(Window(0, 0, 60, 80))
    assert not found.resampled
    np.testing.assert_array_equal(found_CHW[:, 5:, 3:], pixels_CHW[:, :-5, :-3])
    assert valid_HW.sum() == 55 * 77
    assert not valid_HW[:5].any()


@pytest.mark.parametrize("shift", [(3, 4), (-2.5, 5), (0.2, -9.9)])
def test_a_shifted_grid_is_interpolated_as_gdal_does(shift, resampled):
    pixels_CHW = np.random.default_rng(0).random((2, 60, 80)).astype(np.float32)
    place = from_origin(500000 + shift[0], 5100000 + shift[1], 10, 10)
    found_CHW, valid_HW = resampled(pixels_CHW, {"transform": place}).read(Window(0, 0, 60, 80))
    expected_CHW = np.zeros_like(pixels_CHW)
    reproject(
        pixels_CHW, expected_CHW, src_transform=place, src_crs=UTM["crs"], dst_transform=UTM["transform"],
        dst_crs=UTM["crs"], resampling=Resampling.bilinear,
    )  # fmt: skip
    inside = slice(2, -2), slice(2, -2)
    np.testing.assert_allclose(found_CHW[(slice(None), *inside)], expected_CHW[(slice(None), *inside)], atol=1e-4)
    assert valid_HW[inside].all()


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:32634", "EPSG:3857"])
def test_another_crs_is_warped_to_the_right_place(crs, resampled):
    """The values are the coordinates in the target's CRS, so that every pixel knows where it belongs."""
    (x, y) = transform(UTM["crs"], crs, [499900, 501000], [5100100, 5099300])
    side_x, side_y = (x[1] - x[0]) / 140, (y[0] - y[1]) / 120
    place = Affine(side_x, 0, x[0], 0, -side_y, y[0])
    columns, rows = np.meshgrid(np.arange(140) + 0.5, np.arange(120) + 0.5)
    map_x, map_y = place.a * columns + place.c, place.e * rows + place.f
    found = transform(crs, UTM["crs"], map_x.ravel(), map_y.ravel())
    pixels_CHW = np.array(found).reshape(2, 120, 140) - np.array([500000, 5100000])[:, None, None]
    found_CHW, valid_HW = resampled(pixels_CHW.astype(np.float32), {"transform": place, "crs": crs}).read(
        Window(0, 0, 60, 80)
    )
    rows, columns = np.indices((60, 80))
    assert valid_HW[5:-15, 5:-15].all()
    np.testing.assert_allclose(found_CHW[0][valid_HW], (columns * 10 + 5)[valid_HW], atol=0.1)
    np.testing.assert_allclose(found_CHW[1][valid_HW], (-rows * 10 - 5)[valid_HW], atol=0.1)


@pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:32634"])
def test_a_pixel_does_not_depend_on_the_window_it_is_read_with(crs, resampled):
    (west,), (north,) = transform("EPSG:32633", crs, [500003], [5100004])
    pixels_CHW = np.random.default_rng(1).random((2, 90, 90)).astype(np.float32)
    raster = resampled(pixels_CHW, {"transform": from_origin(west, north, 10, 10), "crs": crs})
    whole_CHW, whole_HW = raster.read(Window(0, 0, 60, 80))
    for window in (Window(7, 11, 13, 17), Window(31, 0, 1, 80), Window(59, 79, 1, 1)):
        part_CHW, part_HW = raster.read(window)
        place = slice(window.row, window.row + window.height), slice(window.column, window.column + window.width)
        np.testing.assert_array_equal(part_CHW, whole_CHW[(slice(None), *place)])
        np.testing.assert_array_equal(part_HW, whole_HW[place])


def test_nodata_of_one_band_does_not_bleed_into_its_neighbours(resampled):
    pixels_CHW = np.full((2, 60, 80), 50, np.float32)
    pixels_CHW[1, 20:30, 20:30] = -9999
    place = {"transform": from_origin(500003, 5100004, 10, 10)}
    found_CHW, valid_HW = resampled(pixels_CHW, place, nodata=-9999).read(Window(2, 2, 50, 70))
    assert found_CHW[:, valid_HW] == pytest.approx(50)
    assert (found_CHW[:, ~valid_HW] == 0).all()
    assert (~valid_HW).sum() == 100


def test_near_infrared_marked_as_alpha_by_gdal_is_a_band(make_raster):
    random = np.random.default_rng(2)
    path = make_raster(
        random.integers(1, 250, (4, 60, 80)).astype("uint8"), "after.tif", photometric="rgb", alpha="yes"
    )
    with rasterio.open(path) as dataset:
        assert dataset.colorinterp[3] == ColorInterp.alpha
    moved = {"transform": from_origin(500003, 5100004, 10, 10)}
    before = make_raster(random.integers(1, 250, (4, 60, 80)).astype("uint8"), "before.tif", **moved)
    with open_pair(str(before), str(path)) as pair:
        _, after_CHW, valid_HW = pair.read(Window(2, 2, 50, 70))
    assert after_CHW.shape[0] == 4
    assert valid_HW.all()


def test_finer_pixels_are_averaged_and_not_picked(resampled):
    checkers_HW = np.indices((600, 800)).sum(0) % 2 * 100
    found = resampled(checkers_HW[None].astype(np.float32), {"transform": from_origin(500000.3, 5100000.3, 1, 1)})
    found_CHW, valid_HW = found.read(Window(1, 1, 57, 77))
    assert valid_HW.all()
    assert np.abs(found_CHW - 50).max() < 1


def test_coarser_pixels_are_interpolated(resampled):
    coarse_CHW = surface(20, 30)
    found_CHW, _ = resampled(coarse_CHW, {"transform": from_origin(500000, 5100000, 40, 40)}).read(Window(0, 0, 60, 80))
    at = (np.indices((60, 80)) + 0.5) / 4 - 0.5
    expected_HW = ndimage.map_coordinates(coarse_CHW[0], at, order=1, mode="nearest")
    np.testing.assert_allclose(found_CHW[0], expected_HW, atol=1e-3)


def test_the_overlap_is_what_both_rasters_cover_and_reading_returns_what_is_valid_on_both(make_raster):
    before, after = surface(), surface()
    before[:, 50, 40], after[:, 10, 10] = 0, 0
    moved = from_origin(500200, 5099900, 10, 10)
    paths = make_raster(before, "before.tif", nodata=0), make_raster(after, "after.tif", nodata=0, transform=moved)
    with open_pair(*map(str, paths)) as pair:
        assert pair.window == Window(10, 20, 50, 60)
        before_CHW, after_CHW, valid_HW = pair.read(pair.window)
        strips = list(pair.strips(pair.window))
    assert valid_HW.sum() == 50 * 60 - 2
    assert not valid_HW[40, 20]
    assert not valid_HW[10, 10]
    assert (before_CHW[:, ~valid_HW] == 0).all()
    assert (after_CHW[:, ~valid_HW] == 0).all()
    np.testing.assert_array_equal(after_CHW[:, valid_HW], after[:, :50, :60][:, valid_HW])
    assert sum(strip.height for strip in strips) == 50


@pytest.mark.parametrize(
    ("profile", "said"),
    [
        ({}, 0),
        ({"transform": from_origin(500003, 5100004, 10, 10)}, 0),
        ({"transform": from_origin(500100, 5100000, 10, 10)}, 0),
        ({"transform": from_origin(500000, 5100000, 10.3, 10)}, 1),
        ({"transform": from_origin(500000, 5100000, 30, 30)}, 1),
    ],
)
def test_grids_that_differ_by_more_than_a_pixel_are_told(profile, said, make_raster):
    before, after = make_raster(surface(), "before.tif"), make_raster(surface(), "after.tif", **profile)
    with open_pair(str(before), str(after)) as pair:
        assert len(pair.notes) == said
        assert all("different grids" in note for note in pair.notes)


@pytest.mark.parametrize("step", [1, 3])
def test_the_sample_holds_the_pixels_of_the_lattice_however_it_is_read(step, make_raster, monkeypatch):
    before, after = surface(), surface() * 1.5
    before[:, 33, 33] = 0
    paths = [str(make_raster(before, "before.tif", nodata=0)), str(make_raster(after, "after.tif"))]
    monkeypatch.setattr(pair_sample_module, "SAMPLE_BYTES", 60 * 80 * pair_sample_module.KINDS * 2 * 4 / step**2)
    found = []
    for rows in (100, 7):
        monkeypatch.setattr("rsfm.raster.pair.STRIP_BYTES", rows * 4 * 2 * 80)
        with open_pair(*paths) as pair:
            found.append(take_sample(pair))
    assert found[0].step == step
    assert found[0].valid == 60 * 80 - 1
    assert found[0].before_CN.shape[1] == len(range(0, 60, step)) * len(range(0, 80, step)) - 1
    lattice_HW = (slice(None, None, step), slice(None, None, step))
    expected_CN = after[(slice(None), *lattice_HW)][:, before[0][lattice_HW] > 0]
    np.testing.assert_array_equal(found[0].after_CN, expected_CN)
    for one, other in zip(found[0], found[1], strict=True):
        np.testing.assert_array_equal(one, other)


def test_smoothing_is_gaussian_where_all_is_valid_and_ignores_what_is_not():
    pixels_CHW = np.random.default_rng(3).random((2, 40, 50)).astype(np.float32)
    rows, columns = slice(MARGIN, 36, 1), slice(MARGIN, 46, 1)
    valid_HW = np.ones((40, 50), bool)
    expected_CHW = ndimage.gaussian_filter(pixels_CHW, (0, 1, 1), truncate=4)[:, rows, columns]
    np.testing.assert_allclose(smooth(pixels_CHW, valid_HW, rows, columns), expected_CHW, atol=1e-5)
    valid_HW[10:15, 10:15] = False
    constant_CHW = np.where(valid_HW, np.float32(7), np.float32(0))[None]
    assert smooth(constant_CHW, valid_HW, rows, columns) == pytest.approx(7)


@pytest.mark.parametrize("invalid", ["nothing", "columns", "a hole", "all"])
def test_smoothing_tiles_is_smoothing_to_the_last_bit(invalid):
    valid_HW = np.ones((40, 50), bool)
    holes = {"columns": (slice(None), slice(20, 33)), "a hole": (slice(9, 21), slice(3, 30)), "all": slice(None)}
    if invalid in holes:
        valid_HW[holes[invalid]] = False
    pixels_CHW = np.random.default_rng(5).random((3, 40, 50)).astype(np.float32) * valid_HW
    expected_CRS = smooth(pixels_CHW, valid_HW, slice(RADIUS, 40 - RADIUS, 1), slice(RADIUS, 50 - RADIUS, 1))
    for found_RS, expected_RS in zip(smooth_each(pixels_CHW, valid_HW), expected_CRS, strict=True):
        np.testing.assert_array_equal(found_RS, expected_RS)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32", "float64"])
def test_pixels_as_stored_are_those_that_are_read_as_float(dtype, make_raster):
    random = np.random.default_rng(6)
    before_CHW, after_CHW = (random.integers(0, 99, (2, 60, 80)).astype(dtype) for _ in range(2))
    before_CHW[:, 5:9, 5:9] = after_CHW[:, 40:50] = 0
    paths = [str(make_raster(each, f"{at}.tif", nodata=0)) for at, each in enumerate((before_CHW, after_CHW))]
    window = Window(-3, 7, 60, 80)
    with open_pair(*paths) as pair:
        *stored, stored_HW = pair.read_stored(window)
        *expected, expected_HW = pair.read(window)
    np.testing.assert_array_equal(stored_HW, expected_HW)
    for stored_CHW, expected_CHW in zip(stored, expected, strict=True):
        assert stored_CHW.dtype == (dtype if dtype in {"uint8", "int16", "uint16"} else "float32")
        np.testing.assert_array_equal(stored_CHW, expected_CHW)


def test_moving_interpolates_what_lies_beside_and_says_where_that_is_invalid():
    rows, columns = np.indices((20, 20)).astype(np.float32)
    inside = slice(MARGIN, 16, 1), slice(MARGIN, 16, 1)
    valid_HW = np.ones((20, 20), bool)
    moved_CHW = move(np.stack([rows, columns]), valid_HW, 0.8, -0.6, *inside)
    np.testing.assert_allclose(moved_CHW, np.stack([rows + 0.8, columns - 0.6])[(slice(None), *inside)], atol=1e-5)
    valid_HW[10, 10] = False
    found_HW = np.isnan(move(rows[None], valid_HW, 0.8, -0.6, *inside)[0])
    assert sorted(zip(*np.nonzero(found_HW), strict=True)) == [(4, 5), (4, 6), (5, 5), (5, 6)]


def test_smoothing_beside_equals_moving_what_is_smoothed():
    pixels_CHW = np.random.default_rng(4).random((2, 40, 50)).astype(np.float32)
    inside = slice(MARGIN + 1, 34, 1), slice(MARGIN + 1, 44, 1)
    valid_HW = np.ones((40, 50), bool)
    smooth_CHW = np.zeros_like(pixels_CHW)
    smooth_CHW[:, 4:36, 4:46] = smooth(pixels_CHW, valid_HW, slice(4, 36, 1), slice(4, 46, 1))
    expected_CRS = move(smooth_CHW, valid_HW, 0.8, -0.6, *inside)
    smooth_CRS, moved_CRS = smooth_and_beside(pixels_CHW, valid_HW, 0.8, -0.6, *inside)
    np.testing.assert_allclose(moved_CRS, expected_CRS, atol=1e-5)
    np.testing.assert_array_equal(smooth_CRS, smooth(pixels_CHW, valid_HW, *inside))
