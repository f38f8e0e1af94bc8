"""Features that are kept are those that the map of the whole would have, whatever was looked at before."""

import numpy as np
import pytest
import torch
from rsfm.inference import run_tiles
from rsfm.inference_config import TilingConfig
from rsfm.labelling import feature_cache
from rsfm.labelling.feature_cache import FeatureCache
from rsfm.model_file import build_encoder
from rsfm.networks import EncoderNetwork, FeatureNetwork
from rsfm.raster.grid import Window
from rsfm.raster.reader import open_raster
from rsfm.raster.statistics import band_statistics
from rsfm.sources.encoded import Encoded
from rsfm.sources.texture import Texture

from .scene import write_scene


@pytest.fixture(scope="module")
def raster(tmp_path_factory):
    path = tmp_path_factory.mktemp("cache") / "scene.tif"
    write_scene(path, 500)
    with open_raster(str(path)) as opened:
        yield opened


@pytest.fixture(scope="module")
def statistics(raster):
    return band_statistics([raster], [raster.grid.window], 0)


def nothing():
    pass


def whole(network, raster):
    rows = []
    run_tiles(
        network, raster, raster.grid.window, TilingConfig(), "cpu", 1, lambda part, _: rows.append(part.copy()),
        nothing, lambda _: None,
    )  # fmt: skip
    return np.concatenate(rows, axis=1)


def compute(cache, window):
    for part in cache.missing(window):
        cache.compute(part, nothing)


def test_pixels_have_the_features_of_the_whole_map_wherever_one_looked_first(raster, statistics):
    network = FeatureNetwork(Texture(3), statistics)
    expected_DHW = whole(network, raster)
    random = np.random.default_rng(1)
    rows, columns = random.integers(20, 500, 300), random.integers(0, 500, 300)
    for windows in (
        [Window(0, 0, 500, 500)],
        [Window(230, 240, 20, 30), Window(0, 0, 300, 300), Window(0, 0, 500, 500)],
    ):
        cache = FeatureCache(network, raster, "cpu")
        for window in windows:
            compute(cache, window)
            assert not cache.missing(window)
        features_ND, valid_N = cache.at(rows, columns)
        assert valid_N.all()
        np.testing.assert_allclose(features_ND, expected_DHW[:, rows, columns].T, atol=4e-3)


def test_nodata_is_told(raster, statistics):
    cache = FeatureCache(FeatureNetwork(Texture(3), statistics), raster, "cpu")
    compute(cache, Window(0, 0, 60, 60))
    assert cache.at(np.array([5, 30]), np.array([5, 30]))[1].tolist() == [False, True]


def test_features_between_cells_are_those_of_the_whole_map(raster, statistics):
    torch.manual_seed(0)
    encoder = build_encoder({"name": "conv_small"}, 3).eval()
    expected_DHW = whole(FeatureNetwork(Encoded(encoder), statistics), raster)
    cache = FeatureCache(EncoderNetwork(encoder, statistics), raster, "cpu")
    random = np.random.default_rng(2)
    rows, columns = random.integers(20, 490, 100), random.integers(0, 490, 100)
    for part in cache.missing_at(rows, columns):
        cache.compute(part, nothing)
    features_ND, _ = cache.at(rows, columns)
    scale = np.abs(expected_DHW).max()
    np.testing.assert_allclose(features_ND / scale, expected_DHW[:, rows, columns].T / scale, atol=3e-3)


def test_only_what_is_new_is_computed_after_a_move(raster, statistics):
    cache = FeatureCache(FeatureNetwork(Texture(3), statistics), raster, "cpu")
    compute(cache, Window(0, 0, 400, 400))
    parts = cache.missing(Window(0, 100, 400, 400))
    assert sum(part.height * part.width for part in parts) < 400 * 400 / 2
    assert parts


def test_what_was_not_used_for_long_gives_way_but_never_what_is_on_the_screen(raster, statistics, monkeypatch):
    cache = FeatureCache(FeatureNetwork(Texture(3), statistics), raster, "cpu")
    seen = cache.look_at(Window(0, 0, 100, 100))
    compute(cache, seen)
    monkeypatch.setattr(feature_cache, "MOST_BYTES", 1)
    compute(cache, Window(450, 450, 10, 10))
    assert not cache.missing(seen)
    assert cache.missing(Window(450, 450, 10, 10))
