"""Networks whose result is known, and what runs them over a raster made for the test."""

import numpy as np
import rasterio
import torch
from affine import Affine
from hypothesis import HealthCheck, settings
from rsfm.inference import TileNetwork, run_tiles
from rsfm.inference_config import TilingConfig
from rsfm.raster.reader import open_raster
from torch import nn

PROFILE = {"driver": "GTiff", "crs": "EPSG:32633", "transform": Affine(10, 0, 500000, 0, -10, 5000000)}
SLOW = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


class Toy(TileNetwork):
    """Three 3 x 3 convolutions with reflected edges: sees 3 pixels around each."""

    def __init__(self, bands, margin=3, multiple=1):
        super().__init__()
        torch.manual_seed(0)
        self.convs = nn.ModuleList(
            nn.Conv2d(inputs, outputs, 3, padding=1, padding_mode="reflect")
            for inputs, outputs in ((bands, 6), (6, 6), (6, 3))
        )
        self.outputs, self.stride, self.margin, self.multiple = 3, 1, margin, multiple

    def forward(self, pixels_BCSS, valid_BSS):
        features = pixels_BCSS
        for conv in self.convs:
            features = torch.tanh(conv(features))
        return features


class Identity(TileNetwork):
    def __init__(self, outputs, stride=1, margin=None, multiple=1):
        super().__init__()
        self.outputs, self.stride, self.margin, self.multiple = outputs, stride, margin, multiple
        self.calls, self.shapes, self.seen_devices = 0, set(), set()

    def forward(self, pixels_BCSS, valid_BSS):
        self.calls += 1
        self.shapes.add(tuple(pixels_BCSS.shape))
        return nn.functional.avg_pool2d(pixels_BCSS, self.stride) if self.stride > 1 else pixels_BCSS


class Constant(Identity):
    def forward(self, pixels_BCSS, valid_BSS):
        return super().forward(pixels_BCSS, valid_BSS) * 0 + 7.25


def write(path, pixels, **profile):
    bands, height, width = pixels.shape
    profile = {**PROFILE, "count": bands, "height": height, "width": width, "dtype": pixels.dtype, **profile}
    with rasterio.open(path, "w", **profile) as dataset:
        dataset.write(pixels)
    return str(path)


def noise(bands, height, width, seed=0):
    return np.random.default_rng(seed).normal(size=(bands, height, width)).astype(np.float32)


def result(network, path, window=None, tile=64, overlap=16, batch=3, check=lambda: None, inside=None):
    rows, valid, progress = [], [], []

    def finish(rows_Khw, valid_hw):
        rows.append(rows_Khw.copy())
        valid.append(valid_hw.copy())

    with open_raster(path) as raster:
        tiling = TilingConfig(tile_size=tile, tile_overlap=overlap)
        whole = window or raster.grid.window
        run_tiles(network, raster, whole, tiling, "cpu", batch, finish, check, progress.append, inside)
    assert progress == sorted(progress)
    assert progress[-1] == 1
    return np.concatenate(rows, axis=1), np.concatenate(valid)


def whole(network, pixels, margin):
    """Run a network over a whole raster, surrounded by its mirror image, as one tile."""
    padded = np.pad(pixels, ((0, 0), (margin, margin), (margin, margin)), mode="reflect")
    tensor = torch.from_numpy(padded)[None]
    with torch.inference_mode():
        outputs = network(tensor, torch.ones_like(tensor[:, 0], dtype=torch.bool))[0].numpy()
    return outputs[:, margin : outputs.shape[1] - margin, margin : outputs.shape[2] - margin]
