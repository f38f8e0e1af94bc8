"""Every real raster opens or is refused with a sentence, and the odd ones get the sentence that fits them."""

import re

import pytest
from rsfm.errors import UserError
from rsfm.raster.collection import Entry
from rsfm.raster.describing import describe_raster
from rsfm.raster.grid import Window
from rsfm.raster.inspect import inspect_raster
from rsfm.raster.reader import open_raster

from ..conftest import DATA

RASTERS = sorted(str(path.relative_to(DATA)) for path in DATA.rglob("*") if path.suffix in {".tif", ".png"})
pytestmark = [
    pytest.mark.skipif(not RASTERS, reason=f"the test rasters are not there: {DATA} (set RSFM_TEST_DATA)"),
    pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning"),
]


def describe(name: str) -> Entry:
    return describe_raster(str(DATA / "oddities" / name))


@pytest.mark.parametrize("name", RASTERS or ["none"])
def test_it_opens_or_is_refused_with_a_sentence(name):
    path = str(DATA / name)
    entry = describe_raster(path)
    assert f"'{name.rpartition('/')[2]}'" in entry.problem if entry.problem else entry.bands
    page = inspect_raster(path)
    assert ("can be used" in page) == (not entry.problem)
    if entry.problem and "no valid pixel" not in entry.problem:
        with pytest.raises(UserError, match=re.escape(entry.problem[:60])), open_raster(path) as raster:
            raster.read(raster.grid.window)
        return
    with open_raster(path) as raster:
        pixels_CHW, valid_HW = raster.read(Window(0, 0, 32, 32))
    assert pixels_CHW.shape == (len(entry.bands), 32, 32)
    assert valid_HW.any() or not pixels_CHW.any()
    assert (entry.height, entry.width) == (raster.grid.height, raster.grid.width)
    assert entry.gsd == pytest.approx(raster.grid.gsd, rel=1e-4)


def test_all_nodata_is_said_to_hold_no_pixel():
    assert describe("all_nodata_uint16.tif").problem == (
        "'all_nodata_uint16.tif' holds no valid pixel: all are nodata (0). Leave it out, or correct its nodata value "
        "in QGIS with 'Translate (convert format)'."
    )


def test_a_raster_across_180_degrees_has_its_west_in_the_east():
    entry = describe("antimeridian_utm60_uint16.tif")
    west, _, east, _ = entry.footprint or (0, 0, 0, 0)
    assert (entry.problem, entry.role) == ("", "imagery")
    assert west == pytest.approx(178.0, abs=0.01)
    assert east == pytest.approx(-178.5, abs=0.02)


def test_truncated_tiles_are_said_to_be_damaged():
    assert describe("corrupt_truncated_tiles.tif").problem == (
        "'corrupt_truncated_tiles.tif' is damaged: its pixels near row 0, column 0 cannot be read. Copy or download "
        "the file again, then choose it under 'Rasters'."
    )


def test_float_radar_with_a_nodata_edge_is_dated_and_linear():
    entry = describe("float32_nodata_edge_utm10.tif")
    assert (entry.problem, entry.sensor, entry.decibel, entry.nodata) == ("", "Sentinel-1", False, 0)
    assert (entry.date, entry.date_source) == ("2020-01-06T10:00:00+00:00", "metadata")
    assert [band.name for band in entry.bands] == ["VV"]
    assert entry.valid == pytest.approx(0.489, abs=0.001)


def test_ten_nameless_bands_keep_their_numbers_and_minus_9999():
    entry = describe("hls_10band_float32_nodata-9999.tif")
    assert (entry.problem, entry.nodata) == ("", -9999)
    assert [band.name for band in entry.bands] == [f"Band {number}" for number in range(1, 11)]


def test_different_scales_of_bands_are_pointed_out():
    entry = describe("int16_scale_offset_epsg4326.tif")
    assert (entry.problem, entry.scale, entry.offset) == ("", 1, 0)
    assert entry.note == "Its bands declare different scales and offsets: values are used as stored."


def test_control_points_without_a_grid_are_refused():
    assert describe("no_transform_gcps_only_uint16.tif").problem == (
        "'no_transform_gcps_only_uint16.tif' has no grid, only 210 ground control points. Give it one in QGIS with "
        "'Warp (reproject)'."
    )


def test_a_collar_of_nodata_is_counted():
    entry = describe("nodata_collar_landsat_rgb_utm18.tif")
    assert (entry.problem, entry.nodata) == ("", 0)
    assert entry.valid == pytest.approx(0.673, abs=0.001)


def test_an_internal_mask_is_counted():
    entry = describe("rgb_internal_mask.tif")
    assert (entry.problem, entry.nodata) == ("", None)
    assert entry.valid == pytest.approx(0.969, abs=0.001)


def test_a_rotated_raster_is_refused_and_its_2000_pixels_are_no_year():
    entry = describe("rotated_sar_umbra_yasur_2000.tif")
    assert entry.date is None
    assert entry.problem == (
        "'rotated_sar_umbra_yasur_2000.tif' is rotated: its rows do not run from west to east. Straighten it in QGIS "
        "with 'Warp (reproject)'."
    )


def test_degrees_are_metres_on_the_ground():
    entry = describe("s2_mosaic_4band_uint16_epsg4326.tif")
    assert (entry.problem, entry.sensor) == ("", "Sentinel-2")
    assert entry.gsd == pytest.approx(8.27, abs=0.01)


def test_a_raster_without_crs_is_refused():
    assert describe("tiny_3x2_float32_nocrs.tif").problem == (
        "'tiny_3x2_float32_nocrs.tif' has no CRS, so its place on the map is unknown. Give it one in QGIS with 'Assign "
        "projection'."
    )
