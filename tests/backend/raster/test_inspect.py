import shutil
import subprocess
import sys

import numpy as np
import pytest
from rsfm.errors import UserError
from rsfm.raster.inspect import inspect_raster

WORDS = {
    "all_nodata_uint16.tif": ["cannot be used", "all are nodata", "0.0% of the pixels"],
    "antimeridian_utm60_uint16.tif": ["can be used", "EPSG:32660", "100 m"],
    "corrupt_truncated_tiles.tif": ["cannot be used", "is damaged"],
    "float32_nodata_edge_utm10.tif": ["can be used", "48.9% of the pixels", "Gamma0_VV"],
    "hls_10band_float32_nodata-9999.tif": ["can be used", "Nodata       -9999", "Band 10"],
    "int16_scale_offset_epsg4326.tif": ["can be used", "scale and offset"],
    "no_transform_gcps_only_uint16.tif": ["cannot be used", "ground control points"],
    "nodata_collar_landsat_rgb_utm18.tif": ["can be used", "67.3% of the pixels"],
    "rgb_internal_mask.tif": ["can be used", "mask: per dataset", "96.9% of the pixels"],
    "rotated_sar_umbra_yasur_2000.tif": ["cannot be used", "Warp (reproject)"],
    "s2_mosaic_4band_uint16_epsg4326.tif": ["can be used", "8.269 m"],
    "tiny_3x2_float32_nocrs.tif": ["cannot be used", "Assign projection"],
}


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("name", WORDS)
def test_the_page_of_a_real_oddity_says_what_matters(data, name):
    page = inspect_raster(str(data / "oddities" / name))
    assert [word for word in WORDS[name] if word not in page] == []


def test_the_page_names_size_bands_and_their_range(make_raster):
    pixels = np.stack([np.full((30, 40), 7.5), np.arange(1200).reshape(30, 40)]).astype(np.float32)
    page = inspect_raster(str(make_raster(pixels)))
    assert "30 rows x 40 columns, 2 bands" in page
    assert "10 m" in page
    rows = [line.split() for line in page.splitlines() if line.strip().startswith("Band ")]
    assert rows == [["Band", "1", "7.5", "7.5", "7.5"], ["Band", "2", "0", "599.5", "1199"]]
    assert "Constant bands teach nothing: Band 1" in page


def test_a_border_of_fill_without_nodata_is_pointed_out(make_raster):
    pixels = np.random.default_rng(0).integers(1, 250, (3, 50, 50)).astype(np.uint8)
    assert "extreme value" not in inspect_raster(str(make_raster(pixels)))
    pixels[:, :, :10] = 255
    assert "20.0% of the pixels have one extreme value" in inspect_raster(str(make_raster(pixels)))


def test_near_infrared_marked_as_alpha_is_explained(make_raster):
    pixels = np.random.default_rng(0).integers(1, 250, (4, 50, 50)).astype(np.uint8)
    assert "used as a band like the others" in inspect_raster(str(make_raster(pixels)))


def test_a_large_raster_is_sampled(make_raster):
    pixels = np.ones((1, 8300, 8300), np.uint8)
    pixels[:, :, 4150:] = 0
    page = inspect_raster(str(make_raster(pixels, nodata=0, tiled=True, compress="deflate")))
    assert "(from a sample)" in page
    share = float(page.split("Valid")[1].split("%")[0])
    assert share == pytest.approx(50, abs=3)
    assert "no overviews" in page


def test_what_is_no_raster_is_refused(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        inspect_raster(str(tmp_path / "a.tif"))


@pytest.mark.skipif(not shutil.which("head"), reason="needs `head`")
def test_a_reader_that_has_seen_enough_is_no_error(make_raster):
    path = make_raster(np.ones((30, 8, 8), "uint8"))
    command = f"set -o pipefail; '{sys.executable}' -m rsfm inspect " + f"'{path}' " * 20 + "| head -n 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 1
