"""The feature sources that a fine-tuning compares, and their features at the labelled pixels.

Shape letters: N labelled pixels, D features, C bands, B batch, H rows, W columns.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from rsfm.blocks.normalisation import Normalisation
from rsfm.encoder import Encoder
from rsfm.inference import TileNetwork, run_tiles, usual_batch
from rsfm.inference_config import TilingConfig
from rsfm.model_file import Model, build_encoder
from rsfm.networks import FeatureNetwork
from rsfm.raster.grid import Window
from rsfm.raster.reader import Raster
from rsfm.raster.sampler import WindowSampler
from rsfm.raster.statistics import Statistics
from rsfm.source import Source
from rsfm.sources.encoded import Encoded
from rsfm.sources.pixels import Pixels
from rsfm.sources.texture import Texture

REGION = 256
"""Labelled pixels are read in square regions of this many pixels, so that sparse labels cost little."""
DEFAULT_ENCODER = {"name": "conv_small"}


def make_candidates(raster: Raster, statistics: Statistics, pretrained: Model | None, seed: int) -> dict[str, Source]:
    """Make the sources to compare: pixels, texture, untrained encoder, and the pretrained one if there is one."""
    config = DEFAULT_ENCODER if pretrained is None else pretrained.card.encoder
    assert config is not None  # noqa: S101  a model without encoder was refused before
    torch.manual_seed(seed)
    untrained = build_encoder(config, raster.bands)
    calibrate(untrained, raster, statistics, seed)
    found: dict[str, Source] = {
        "pixels": Pixels(raster.bands),
        "texture": Texture(raster.bands),
        "untrained": Encoded(untrained),
    }
    if pretrained is not None:
        found["pretrained"] = Encoded(pretrained.encoder())
    return found


def calibrate(encoder: Encoder, raster: Raster, statistics: Statistics, seed: int) -> None:
    """Give the batch norms of an untrained encoder the statistics of this raster, so that it is a fair baseline."""
    norms = [module for module in encoder.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    if norms:
        side = min(64, raster.grid.height, raster.grid.width)
        side -= side % encoder.stride
        sampler = WindowSampler([raster], side, None, seed)
        normalisation = Normalisation.from_statistics(statistics)
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a plain average over the batches
        encoder.train()
        with torch.inference_mode():
            for index in range(8):
                pixels, valid, _ = sampler.batch(index, 32)
                encoder.feature_maps(normalisation(torch.from_numpy(pixels), torch.from_numpy(valid)))
    encoder.eval()


def features_at(
    source: Source,
    statistics: Statistics,
    raster: Raster,
    rows_N: NDArray[Any],
    columns_N: NDArray[Any],
    device: str,
    check: Callable[[], None],
) -> NDArray[np.float32]:
    """Compute the features of a source at some pixels, as the map will see them: features_ND."""
    return outputs_at(FeatureNetwork(source, statistics), raster, rows_N, columns_N, device, check)


def outputs_at(
    network: TileNetwork,
    raster: Raster,
    rows_N: NDArray[Any],
    columns_N: NDArray[Any],
    device: str,
    check: Callable[[], None],
) -> NDArray[np.float32]:
    """Compute what a network of full resolution gives at some pixels, as the map will have it: outputs_NK."""
    network = network.to(device).eval()
    outputs_NK = np.zeros((len(rows_N), network.outputs), np.float32)
    region_N = (rows_N // REGION) * 2**20 + columns_N // REGION
    for region in np.unique(region_N):
        inside = np.flatnonzero(region_N == region)
        outputs_NK[inside] = _read_region(network, raster, rows_N[inside], columns_N[inside], device, check)
    return outputs_NK


def _read_region(
    network: TileNetwork,
    raster: Raster,
    rows_N: NDArray[Any],
    columns_N: NDArray[Any],
    device: str,
    check: Callable[[], None],
) -> NDArray[np.float32]:
    """Run the network over the rectangle around some pixels and keep those."""
    top, left = int(rows_N.min()), int(columns_N.min())
    window = Window(top, left, int(rows_N.max()) - top + 1, int(columns_N.max()) - left + 1)
    outputs_NK = np.zeros((len(rows_N), network.outputs), np.float32)
    done = 0

    def keep(rows_KHW: NDArray[np.float32], _: NDArray[np.bool_]) -> None:
        nonlocal done
        here = (rows_N - top >= done) & (rows_N - top < done + rows_KHW.shape[1])
        outputs_NK[here] = rows_KHW[:, rows_N[here] - top - done, columns_N[here] - left].T
        done += rows_KHW.shape[1]

    batch = usual_batch(network, TilingConfig())
    run_tiles(network, raster, window, TilingConfig(), device, batch, keep, check, lambda _: None)
    return outputs_NK
