"""Texture features, against the slow obvious version."""

import numpy as np
import pytest
import torch
from rsfm.sources.texture import Texture


@pytest.mark.parametrize(("height", "width"), [(8, 8), (9, 17)])
def test_texture_is_the_mean_and_deviation_of_the_neighbourhoods(height, width):
    pixels_CHW = np.random.default_rng(0).normal(size=(2, height, width))
    source = Texture(2)
    features = source.features(torch.from_numpy(pixels_CHW)[None])[0].numpy()
    assert features.shape == (source.width, height, width)
    expected = [pixels_CHW]
    for side in (3, 7):
        padded = np.pad(pixels_CHW, [(0, 0), *[(side // 2, side // 2)] * 2], mode="reflect")
        around = np.lib.stride_tricks.sliding_window_view(padded, (side, side), axis=(1, 2))
        expected += [around.mean(axis=(3, 4)), around.std(axis=(3, 4))]
    assert np.allclose(features, np.concatenate(expected), atol=1e-6)


def test_texture_reaches_as_far_as_its_margin_says():
    source = Texture(1)
    pixels = torch.zeros(1, 1, 21, 21)
    pixels[0, 0, 10, 10] = 1
    changed = (source.features(pixels)[0] != 0).any(0).nonzero() - 10
    assert changed.abs().max() == source.margin
