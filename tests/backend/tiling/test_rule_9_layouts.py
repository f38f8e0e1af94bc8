"""Rule 9 of tiled inference: how a file is laid out changes no pixel, and nothing is misplaced."""

import numpy as np
import pytest
from affine import Affine

from .networks import PROFILE, Toy, noise, result, whole, write

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
