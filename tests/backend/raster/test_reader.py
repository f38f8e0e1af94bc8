import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp
from rasterio.transform import Affine, from_gcps
from rsfm.errors import UserError
from rsfm.raster.grid import Window
from rsfm.raster.reader import check_has_valid_pixels, open_raster

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def noise(bands=2, height=13, width=9, dtype="float32"):
    return np.random.default_rng(0).integers(1, 200, (bands, height, width)).astype(dtype)


@QUICK
@given(
    row=st.integers(-40, 40),
    column=st.integers(-40, 40),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    shape=st.sampled_from([(1, 1), (1, 5), (2, 2), (13, 9)]),
)
def test_reflection_is_that_of_numpy_however_far(make_raster, row, column, height, width, shape):
    pixels = noise(2, *shape)
    pixels[:, 0, 0] = np.nan
    with open_raster(str(make_raster(pixels))) as raster:
        found, valid = raster.read(Window(row, column, height, width), "reflect")
    far = np.pad(pixels, ((0, 0), (100, 100), (100, 100)), mode="reflect")
    expected = far[:, 100 + row : 100 + row + height, 100 + column : 100 + column + width]
    np.testing.assert_array_equal(valid, np.isfinite(expected[0]))
    np.testing.assert_array_equal(found, np.nan_to_num(expected))


@QUICK
@given(row=st.integers(-20, 20), column=st.integers(-20, 20), height=st.integers(1, 40), width=st.integers(1, 40))
def test_what_lies_outside_is_invalid_and_zero(make_raster, row, column, height, width):
    pixels = noise()
    with open_raster(str(make_raster(pixels))) as raster:
        found, valid = raster.read(Window(row, column, height, width))
    for down in range(height):
        for right in range(width):
            inside = 0 <= row + down < 13 and 0 <= column + right < 9
            assert valid[down, right] == inside
            expected = pixels[:, row + down, column + right] if inside else 0
            assert (found[:, down, right] == expected).all()


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32", "float32", "float64"])
def test_pixels_keep_their_unit_and_native_reading_their_type(make_raster, dtype):
    pixels = noise(dtype=dtype)
    with open_raster(str(make_raster(pixels))) as raster:
        native, _ = raster.read_native(raster.grid.window)
        found, valid = raster.read(raster.grid.window)
    assert native.dtype == raster.dtype == np.dtype(dtype)
    assert found.dtype == np.float32
    assert valid.all()
    np.testing.assert_array_equal(native, pixels)
    np.testing.assert_array_equal(found, pixels)


def test_nodata_in_one_band_makes_the_pixel_invalid(make_raster):
    pixels = noise(3, dtype="int16")
    pixels[1, 4, 5] = -9999
    with open_raster(str(make_raster(pixels, nodata=-9999))) as raster:
        found, valid = raster.read(raster.grid.window)
    assert np.argwhere(~valid).tolist() == [[4, 5]]
    assert (found[:, 4, 5] == 0).all()


@pytest.mark.parametrize("nodata", [-3.4028234663852886e38, float("nan"), 1e20, 0.1])
def test_float_nodata_is_found_in_the_precision_of_the_file(make_raster, nodata):
    pixels = noise()
    pixels[0, 2, 3] = nodata
    with open_raster(str(make_raster(pixels, nodata=nodata))) as raster:
        assert np.argwhere(~raster.read(raster.grid.window)[1]).tolist() == [[2, 3]]


def test_values_too_large_for_float32_are_invalid(make_raster):
    pixels = noise(dtype="float64")
    pixels[0, 2, 3] = -1.7e308
    with open_raster(str(make_raster(pixels))) as raster:
        found, valid = raster.read(raster.grid.window)
    assert np.argwhere(~valid).tolist() == [[2, 3]]
    assert np.isfinite(found).all()


def test_a_mask_in_the_file_is_used(make_raster):
    path = make_raster(noise(dtype="uint8"))
    mask = np.full((13, 9), 255, np.uint8)
    mask[7, 1] = 0
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as dataset:
        dataset.write_mask(mask)
    with open_raster(str(path)) as raster:
        assert np.argwhere(~raster.read(raster.grid.window)[1]).tolist() == [[7, 1]]


@pytest.mark.parametrize("nodata", [None, 255, 0])
def test_a_true_alpha_band_is_a_mask_and_no_band(make_raster, nodata):
    pixels = noise(4, dtype="uint8")
    pixels[3] = 255
    pixels[3, 2:4, 2:4] = 0
    path = make_raster(pixels, photometric="rgb", alpha="yes", nodata=nodata)
    with open_raster(str(path)) as raster:
        assert raster.bands == 3
        found, valid = raster.read(raster.grid.window)
    np.testing.assert_array_equal(valid, pixels[3] > 0)
    np.testing.assert_array_equal(found, pixels[:3] * valid)


def test_near_infrared_that_is_marked_as_alpha_stays_a_band(make_raster):
    pixels = noise(4, dtype="uint8")
    pixels[3, 2, 2] = 0
    path = make_raster(pixels)
    with rasterio.open(path) as dataset:
        assert dataset.colorinterp[3] == ColorInterp.alpha
    with open_raster(str(path)) as raster:
        assert raster.bands == 4
        found, valid = raster.read(raster.grid.window)
    assert valid.all()
    np.testing.assert_array_equal(found, pixels)


def test_threads_read_the_same_with_handles_of_their_own(make_raster):
    pixels = noise(3, 128, 128)
    with open_raster(str(make_raster(pixels, tiled=True, blockxsize=16, blockysize=16, compress="deflate"))) as raster:

        def read(number):
            row = number * 7 % 100
            found, _ = raster.read(Window(row, 3, 20, 90))
            return threading.get_ident(), (found == pixels[:, row : row + 20, 3:93]).all()

        with ThreadPoolExecutor(4) as pool:
            results = list(pool.map(read, range(200)))
    assert all(equal for _, equal in results)
    assert len({thread for thread, _ in results}) > 1


def refusal(path, **options):
    with pytest.raises(UserError) as caught:
        open_raster(str(path), **options)
    return caught.value


def test_a_missing_file_is_named_with_the_control(tmp_path):
    error = refusal(tmp_path / "nothing.tif", field="before")
    assert "nothing.tif' does not exist" in str(error)
    assert "'Before'" in str(error)
    assert error.field == "before"
    assert "is a folder" in str(refusal(tmp_path))


def test_text_named_tif_is_no_raster(tmp_path):
    (tmp_path / "a.tif").write_text("not a raster")
    assert "cannot be read as a raster" in str(refusal(tmp_path / "a.tif"))


def test_a_raster_without_crs_is_refused_unless_it_is_not_needed(make_raster):
    path = make_raster(noise(), crs=None)
    assert "Assign projection" in str(refusal(path))
    with open_raster(str(path), require_crs=False) as raster:
        assert raster.grid.crs is None


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_crs_without_a_place_is_refused(make_raster):
    assert "no georeference" in str(refusal(make_raster(noise(), transform=Affine.identity())))


def test_a_rotated_raster_is_sent_to_warp(make_raster):
    path = make_raster(
        noise(), transform=Affine.translation(500000, 5000000) @ Affine.rotation(5) @ Affine.scale(10, -10)
    )
    assert "Warp (reproject)" in str(refusal(path))
    assert "Warp (reproject)" in str(refusal(path, require_crs=False))


def test_complex_numbers_are_refused(make_raster):
    assert "complex" in str(refusal(make_raster(noise(dtype="complex64"))))


def test_ground_control_points_alone_are_refused(make_raster):
    path = make_raster(noise(), crs=None, transform=Affine.identity())
    points = [GroundControlPoint(row, column, 500000 + column, 5000000 - row) for row in (0, 9) for column in (0, 9)]
    assert from_gcps(points) is not None
    with rasterio.open(path, "r+") as dataset:
        dataset.gcps = (points, "EPSG:32633")
    assert "4 ground control points" in str(refusal(path))


def test_a_file_of_rasters_asks_which_one(tmp_path):
    path = tmp_path / "a.gpkg"
    for table in ("one", "two"):
        append = {"APPEND_SUBDATASET": "YES"} if table == "two" else {}
        with rasterio.open(
            path,
            "w",
            driver="GPKG",
            width=20,
            height=20,
            count=1,
            dtype="uint8",
            crs="EPSG:32633",
            transform=Affine(10, 0, 500000, 0, -10, 5000000),
            RASTER_TABLE=table,
            **append,
        ) as dataset:
            dataset.write(np.ones((1, 20, 20), np.uint8))
    assert "several rasters" in str(refusal(path))
    with open_raster(f"GPKG:{path}:one") as raster:
        assert raster.grid.height == 20


def test_one_valid_pixel_anywhere_is_found_and_none_is_said(make_raster):
    pixels = np.zeros((2, 700, 900), np.uint8)
    with open_raster(str(make_raster(pixels, nodata=0)), "after") as raster, pytest.raises(UserError) as caught:
        check_has_valid_pixels(raster)
    assert "no pixel other than nodata (0)" in str(caught.value)
    assert caught.value.field == "after"
    pixels[:, 333, 444] = 1
    with open_raster(str(make_raster(pixels, nodata=0))) as raster:
        check_has_valid_pixels(raster)


REFUSED = {
    "no_transform_gcps_only_uint16.tif": "ground control points",
    "rotated_sar_umbra_yasur_2000.tif": "is rotated",
    "tiny_3x2_float32_nocrs.tif": "no CRS",
}
VALID_SHARES = {
    "all_nodata_uint16.tif": (4, 0.0),
    "antimeridian_utm60_uint16.tif": (1, 1.0),
    "float32_nodata_edge_utm10.tif": (1, 0.489),
    "hls_10band_float32_nodata-9999.tif": (10, 1.0),
    "int16_scale_offset_epsg4326.tif": (2, 0.965),
    "nodata_collar_landsat_rgb_utm18.tif": (3, 0.673),
    "rgb_internal_mask.tif": (3, 0.969),
    "s2_mosaic_4band_uint16_epsg4326.tif": (4, 1.0),
}


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("name", REFUSED)
def test_real_oddities_that_cannot_be_used_say_why(data, name):
    assert REFUSED[name] in str(refusal(data / "oddities" / name))


@pytest.mark.parametrize("name", VALID_SHARES)
def test_real_oddities_that_can_be_used_have_their_valid_pixels(data, name):
    with open_raster(str(data / "oddities" / name)) as raster:
        found, valid = raster.read(raster.grid.window)
    bands, share = VALID_SHARES[name]
    assert raster.bands == bands
    assert valid.mean() == pytest.approx(share, abs=1e-3)
    assert np.isfinite(found).all()


def test_a_real_damaged_file_is_named_and_not_a_traceback(data):
    path = data / "oddities" / "corrupt_truncated_tiles.tif"
    with open_raster(str(path)) as raster, pytest.raises(UserError, match=r"'corrupt_truncated_tiles.tif' is damaged"):
        raster.read(raster.grid.window)


def test_every_real_oddity_is_looked_at(data):
    names = {path.name for path in (data / "oddities").glob("*.tif")}
    assert names == {*REFUSED, *VALID_SHARES, "corrupt_truncated_tiles.tif"}


def test_real_drone_imagery_with_alpha_and_real_near_infrared_marked_as_alpha(data):
    with open_raster(str(data / "highres" / "uav_pix4d_rgba_alpha.tif")) as raster:
        assert raster.bands == 3
        assert raster.read(raster.grid.window)[1].mean() == pytest.approx(0.876, abs=1e-3)
    with open_raster(str(data / "demo_bundle" / "pretrain_20160816.tif")) as raster:
        assert raster.band_names == ("red", "green", "blue", "nir")
