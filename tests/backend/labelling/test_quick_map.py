"""The map is what the learner says of each pixel, whether drawn at once, coarse first, or between cells."""

import numpy as np
import pytest
import torch
from rsfm.labelling.feature_cache import FeatureCache
from rsfm.labelling.learners import learn
from rsfm.labelling.quick_map import draw
from rsfm.model_file import build_encoder
from rsfm.networks import EncoderNetwork, FeatureNetwork
from rsfm.raster.grid import Window
from rsfm.raster.reader import open_raster
from rsfm.raster.statistics import band_statistics
from rsfm.sources.texture import Texture

from .scene import write_scene


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    path = tmp_path_factory.mktemp("map") / "scene.tif"
    truth_HW = write_scene(path, 470)
    with open_raster(str(path)) as raster:
        yield raster, truth_HW, band_statistics([raster], [raster.grid.window], 0)


def made(scene, network, learner="linear"):
    raster, truth_HW, _ = scene
    cache = FeatureCache(network, raster, "cpu")
    window = cache.look_at(Window(0, 0, 470, 470))
    for part in cache.missing(window):
        cache.compute(part, lambda: None)
    random = np.random.default_rng(0)
    rows, columns = random.integers(25, 465, 400), random.integers(0, 465, 400)
    features_ND, _ = cache.at(rows, columns)
    return cache, window, learn(learner, features_ND, truth_HW[rows, columns] - 1, 3, 0), truth_HW


@pytest.mark.parametrize("learner", ["linear", "forest"])
def test_map_of_pixels_is_the_truth_where_classes_are_plain_and_keeps_nodata(scene, learner):
    cache, window, learned, truth_HW = made(scene, FeatureNetwork(Texture(3), scene[2]), learner)
    class_HW = draw(cache, window, learned)
    assert (class_HW == truth_HW).mean() > 0.93
    assert (class_HW[:20] == 255).all()
    assert (class_HW[20:] != 255).all()


@pytest.mark.parametrize("step", [2, 4, 8])
def test_coarse_map_has_the_pixels_of_the_fine_one_at_its_middles(scene, step):
    cache, window, learned, _ = made(scene, FeatureNetwork(Texture(3), scene[2]))
    fine_HW, coarse_HW = draw(cache, window, learned), draw(cache, window, learned, step)
    at = slice(32 + step // 2, 200, step)  # within the first block
    assert (coarse_HW[at, at] == fine_HW[at, at]).all()
    assert (coarse_HW[at, at] == coarse_HW[32:200:step, 32:200:step][: coarse_HW[at, at].shape[0]]).all()
    assert (coarse_HW[:20] == 255).all()
    assert (coarse_HW == fine_HW).mean() > 0.85


def test_map_between_cells_is_the_learner_on_interpolated_features(scene):
    torch.manual_seed(0)
    encoder = build_encoder({"name": "conv_small"}, 3).eval()
    cache, window, learned, _ = made(scene, EncoderNetwork(encoder, scene[2]))
    class_HW = draw(cache, window, learned)
    rows, columns = (each.ravel() for each in np.mgrid[25:460:7, 0:460:7])
    features_ND, valid_N = cache.at(rows, columns)
    values_KN = learned.values(features_ND.T)
    lead_N = np.sort(values_KN, axis=0)[-1] - np.sort(values_KN, axis=0)[-2]
    sure_N = valid_N & (lead_N > 0.02)
    assert sure_N.mean() > 0.9
    assert (class_HW[rows, columns] == values_KN.argmax(axis=0) + 1)[sure_N].all()


def test_what_is_not_computed_yet_is_left_out_and_a_map_nobody_wants_is_given_up(scene):
    cache, window, learned, _ = made(scene, FeatureNetwork(Texture(3), scene[2]))
    empty = FeatureCache(FeatureNetwork(Texture(3), scene[2]), scene[0], "cpu")
    empty.compute(Window(0, 0, empty.side, empty.side), lambda: None)
    class_HW = draw(empty, empty.look_at(window), learned)
    assert (class_HW[20 : empty.side, : empty.side] != 255).all()
    assert (class_HW[:, empty.side :] == 255).all()
    assert draw(cache, window, learned, go_on=lambda: False) is None
