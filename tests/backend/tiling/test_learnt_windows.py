"""A network that sees the whole tile is given tiles as large as the windows that it learnt with.

Measured with MAE on a texture scene, windows of 32 px: tiles of 256 px cost a quarter of the mean IoU.
"""

import numpy as np
import pytest
import torch
from rsfm.batch_size import fit_memory
from rsfm.encoders.conv_small import ConvSmall, ConvSmallConfig
from rsfm.encoders.vit import ViT, ViTConfig
from rsfm.feature_sample import sample_features
from rsfm.inference import plan_for, run_tiles, usual_batch
from rsfm.inference_config import TilingConfig
from rsfm.labelling.feature_cache import FeatureCache
from rsfm.mapping import Place
from rsfm.networks import EncoderNetwork, FeatureNetwork
from rsfm.raster.area import Area
from rsfm.raster.reader import open_raster
from rsfm.raster.statistics import Statistics
from rsfm.raster.tiling import plan_tiles
from rsfm.sources.encoded import Encoded

from tests.backend.tiling.networks import noise, write

STATISTICS = Statistics(mean=(0.0, 0.0), std=(1.0, 1.0), low=(-9.0, -9.0), high=(9.0, 9.0), count=(1, 1))


def vit(window=32, patch=4):
    torch.manual_seed(0)
    return ViT(ViTConfig(width=24, depth=1, heads=2, patch_size=patch, window=window), 2)


@pytest.mark.parametrize(
    ("window", "multiple", "side", "step"),
    [(32, 4, 32, 16), (64, 8, 64, 32), (96, 8, 96, 72), (224, 16, 224, 160), (30, 4, 32, 16), (0, 4, 256, 192)],
)
def test_tiles_are_as_large_as_the_windows_and_share_half_or_a_quarter(window, multiple, side, step):
    plan = plan_tiles(TilingConfig(), multiple, multiple, None, window)
    assert (plan.side, plan.step, plan.halo) == (side, step, 0)


def test_a_size_that_is_chosen_wins_and_a_finite_network_takes_any_tile():
    assert plan_tiles(TilingConfig(tile_size=128, tile_overlap=32), 4, 4, None, 32).side == 128
    assert plan_tiles(TilingConfig(), 4, 4, 20, 32) == plan_tiles(TilingConfig(tile_size=256), 4, 4, 20)


def test_an_encoder_tells_its_window_and_so_do_the_networks_on_it():
    encoder = vit(48)
    assert encoder.window == 48
    assert EncoderNetwork(encoder, STATISTICS).window == FeatureNetwork(Encoded(encoder), STATISTICS).window == 48
    small = ConvSmall(ConvSmallConfig(width=32), 2)
    assert EncoderNetwork(small, STATISTICS).window == 0
    network = EncoderNetwork(small, STATISTICS)
    assert plan_for(network, TilingConfig()) == plan_for(network, TilingConfig(tile_size=256))


def test_features_are_the_weighed_mean_of_those_of_windows(tmp_path):
    path = write(tmp_path / "raster.tif", noise(2, 80, 96))
    network = EncoderNetwork(vit(), STATISTICS).eval()
    rows = []
    with open_raster(path) as raster, torch.inference_mode():
        nothing = lambda *_: None  # noqa: E731
        batch = usual_batch(network, TilingConfig())
        finish = lambda found, _: rows.append(found.copy())  # noqa: E731
        run_tiles(network, raster, raster.grid.window, TilingConfig(), "cpu", batch, finish, nothing, nothing)
        pixels = torch.from_numpy(raster.read_native(raster.grid.window)[0])
        total, weights = torch.zeros(24, 20, 24), torch.zeros(20, 24)
        bell = torch.sin(torch.pi * (torch.arange(8) + 0.5) / 8) ** 2
        for row in range(0, 80 - 16, 16):
            for column in range(0, 96 - 16, 16):
                window = pixels[None, :, row : row + 32, column : column + 32]
                found = network(window, torch.ones(1, 32, 32, dtype=torch.bool))[0]
                here = slice(row // 4, row // 4 + 8), slice(column // 4, column // 4 + 8)
                total[(slice(None), *here)] += found * bell[:, None] * bell
                weights[here] += bell[:, None] * bell
    np.testing.assert_allclose(np.concatenate(rows, axis=1), (total / weights).numpy(), atol=1e-5)


def test_small_tiles_come_in_large_batches():
    network = EncoderNetwork(vit(), STATISTICS).eval()
    assert usual_batch(network, TilingConfig()) == 256
    assert usual_batch(network, TilingConfig(tile_size=256)) == 4
    assert fit_memory(network, 2, 32, 2**40) == 256
    assert fit_memory(network, 2, 256, 2**40) == 4
    assert fit_memory(network, 2, 512, 2**40) == 4


def test_a_sample_of_features_is_of_large_parts_seen_in_small_tiles(tmp_path):
    path = write(tmp_path / "raster.tif", noise(2, 600, 600))
    network = EncoderNetwork(vit(), STATISTICS).eval()
    with open_raster(path) as raster:
        place = Place(raster, Area(raster.grid.window), TilingConfig(), "cpu")
        assert len(sample_features(network, place, 0, lambda: None, cells=3000)) > 2900


def test_blocks_of_kept_features_are_whole_tiles_and_not_small(tmp_path):
    path = write(tmp_path / "raster.tif", noise(2, 300, 300))
    with open_raster(path) as raster:
        cache = FeatureCache(EncoderNetwork(vit(), STATISTICS).eval(), raster, "cpu")
        assert cache.side == 192
        (part,) = cache.missing(raster.grid.window)
        cache.compute(part, lambda: None)
        assert not cache.missing(raster.grid.window)
