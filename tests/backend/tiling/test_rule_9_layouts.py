"""Rule 9 of tiled inference: how a file is laid out changes no pixel, and nothing is misplaced."""

import numpy as np
import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from rsfm.errors import UserError
from rsfm.inference import run_tiles
from rsfm.inference_config import TilingConfig
from rsfm.raster.reader import open_raster

from .networks import PROFILE, SLOW, Identity, Toy, noise, result, whole, write

LAYOUTS = {
    "tiled by pixel": {"tiled": True, "blockxsize": 64, "blockysize": 64, "interleave": "pixel"},
    "tiled by band": {"tiled": True, "blockxsize": 64, "blockysize": 64, "interleave": "band"},
    "striped": {"tiled": False, "compress": "deflate"},
    "south up": {"transform": Affine(10, 0, 500000, 0, 10, 5000000)},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_8_4_9_the_layout_of_the_file_does_not_change_the_result(tmp_path, layout):
    pixels = noise(2, 150, 130)
    found, _ = result(Toy(2), write(tmp_path / "a.tif", pixels, **LAYOUTS[layout]))
    np.testing.assert_allclose(found, whole(Toy(2), pixels, 3), atol=1e-6)


def test_8_4_9_a_virtual_mosaic_is_one_raster(tmp_path):
    pixels = noise(2, 150, 130)
    write(tmp_path / "left.tif", pixels[:, :, :70])
    write(tmp_path / "right.tif", pixels[:, :, 70:], transform=PROFILE["transform"] @ Affine.translation(70, 0))
    sources = "".join(
        f"""<SimpleSource><SourceFilename relativeToVRT="1">{name}.tif</SourceFilename><SourceBand>{{band}}</SourceBand>
        <SrcRect xOff="0" yOff="0" xSize="{width}" ySize="150"/>
        <DstRect xOff="{start}" yOff="0" xSize="{width}" ySize="150"/></SimpleSource>"""
        for name, start, width in (("left", 0, 70), ("right", 70, 60))
    )
    bands = "".join(
        f'<VRTRasterBand dataType="Float32" band="{band}">{sources.format(band=band)}</VRTRasterBand>'
        for band in (1, 2)
    )
    (tmp_path / "a.vrt").write_text(
        '<VRTDataset rasterXSize="130" rasterYSize="150"><SRS>EPSG:32633</SRS>'
        f"<GeoTransform>500000,10,0,5000000,0,-10</GeoTransform>{bands}</VRTDataset>"
    )
    found, _ = result(Toy(2), str(tmp_path / "a.vrt"))
    np.testing.assert_allclose(found, whole(Toy(2), pixels, 3), atol=1e-6)


@SLOW
@given(
    layout=st.sampled_from(
        [{"tiled": True, "blockxsize": wide, "blockysize": high} for wide in (16, 64, 256) for high in (16, 128)]
        + [{"tiled": False, "blockysize": rows} for rows in (1, 7, 200)]
    ),
    interleave=st.sampled_from(["pixel", "band"]),
    compress=st.sampled_from(["none", "deflate", "lzw"]),
    dtype=st.sampled_from(["uint8", "int16", "uint16", "int32", "float32", "float64"]),
    up=st.sampled_from([-10, 10]),
    height=st.integers(1, 200),
    width=st.integers(1, 200),
    margin=st.sampled_from([None, 0, 5]),
)
def test_8_4_9_pixels_of_any_type_in_any_layout_stay_in_place(
    tmp_path, layout, interleave, compress, dtype, up, height, width, margin
):
    rows, columns = np.mgrid[:height, :width]
    pixels = np.stack([rows % 200 + 1, columns % 200 + 1, (rows * 7 + columns * 3) % 200 + 1]).astype(dtype)
    place = {"transform": Affine(10, 0, 500000, 0, up, 5000000)}
    path = write(tmp_path / "a.tif", pixels, interleave=interleave, compress=compress, **layout, **place)
    found, valid = result(Identity(3, margin=margin), path)
    assert valid.all()
    np.testing.assert_allclose(found, pixels, rtol=1e-6)


def test_8_4_9_a_rotated_raster_is_refused(tmp_path):
    turned = PROFILE["transform"] @ Affine.rotation(12)
    path = write(tmp_path / "a.tif", noise(1, 40, 30), transform=turned)
    with pytest.raises(UserError, match=r"'a\.tif' is rotated.*Warp"):
        open_raster(path)


def test_8_4_9_a_raster_without_crs_is_refused_as_a_map_and_read_as_it_is_where_none_is_needed(tmp_path):
    pixels = noise(2, 150, 130)
    path = write(tmp_path / "a.tif", pixels, crs=None)
    with pytest.raises(UserError, match=r"'a\.tif' has no CRS.*Assign projection"):
        open_raster(path)
    rows = []
    with open_raster(path, require_crs=False) as raster:
        tiling = TilingConfig(tile_size=64, tile_overlap=16)
        finish = lambda rows_KHW, valid_HW: rows.append(rows_KHW.copy())  # noqa: E731
        run_tiles(Toy(2), raster, raster.grid.window, tiling, "cpu", 3, finish, lambda: None, lambda done: None)
    np.testing.assert_allclose(np.concatenate(rows, axis=1), whole(Toy(2), pixels, 3), atol=1e-6)
