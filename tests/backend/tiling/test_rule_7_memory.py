"""A raster far larger than memory is mapped in little of it, however tall it is."""

import os
import subprocess
import sys

import pytest
import rasterio

MAP = """
import sys
from pathlib import Path
import numpy as np, rasterio, torch
from affine import Affine
from torch import nn
from rsfm.inference import TileNetwork, run_tiles
from rsfm.inference_config import TilingConfig
from rsfm.outputs.classes import Classes
from rsfm.raster.background import Background
from rsfm.raster.reader import open_raster
from rsfm.raster.writer import RasterWriter

class Coarse(TileNetwork):
    outputs, stride, margin, multiple = 3, 4, None, 4
    def forward(self, pixels_BCSS, valid_BSS):
        return nn.functional.avg_pool2d(pixels_BCSS, 4)[:, :3]

torch.set_num_threads(1)
folder, height, width = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
with rasterio.open(folder / "big.tif", "w", driver="GTiff", height=height, width=width, count=4, dtype="uint16",
                   crs="EPSG:32633", transform=Affine(10, 0, 500000, 0, -10, 5000000), tiled=True, blockxsize=512,
                   blockysize=512, sparse_ok=True, nodata=0, bigtiff="yes", compress="deflate") as file:
    for row in range(0, height, 2048):
        file.write(np.full((4, 1, 2048), 7, np.uint16), window=((row, row + 1), (width // 4, width // 4 + 2048)))

with open_raster(str(folder / "big.tif")) as raster:
    grid = raster.grid.shrink(4)
    with RasterWriter(folder / "map.tif", Classes, grid) as writer, Background() as background:
        def finish(rows_Khw, valid_hw):
            labels_hw = np.where(valid_hw, rows_Khw.argmax(axis=0) + 1, 255).astype(np.uint8)
            background.do(lambda: writer.write(labels_hw[None]), labels_hw.nbytes)
        run_tiles(Coarse(), raster, raster.grid.window, TilingConfig(tile_size=512), "cpu", 4, finish, lambda: None,
                  lambda done: None)
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(int(status["VmHWM"].split()[0]) * 1024)
"""


def peak(folder, height, width):
    """Map a sparse raster and return the most memory that was used."""
    environment = {**os.environ, "GDAL_CACHEMAX": "256", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", MAP, str(folder), str(height), str(width)],
        capture_output=True, text=True, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with rasterio.open(folder / "map.tif") as made:
        assert made.shape == (height // 4, width // 4)
        for row in range(0, height, 2048):  # lines of one row, so of one cell
            values = made.read(1, window=((row // 4, row // 4 + 1), (0, width // 4)))
            assert (values != 255).sum() == 512
        assert (made.read(1, window=((1, 400), (0, width // 4))) == 255).all()
    return int(done.stdout)


def test_memory_of_a_map_does_not_grow_with_the_height(tmp_path):
    low, high = peak(tmp_path, 4000, 8000), peak(tmp_path, 16000, 8000)
    assert high < 1.5e9
    assert high - low < 1e8  # four uint16 bands of the additional rows are 7.7e8


@pytest.mark.slow
def test_60000_by_60000_pixels_of_4_bands_are_mapped_in_2_gb_as_half_as_many_rows_are(tmp_path):
    low, high = peak(tmp_path, 30000, 60000), peak(tmp_path, 60000, 60000)
    assert high < 2e9
    assert high - low < 2e8
