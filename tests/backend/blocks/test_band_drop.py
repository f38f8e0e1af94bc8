"""Bands that are missing from a view."""

from functools import partial

import pytest
import torch
from rsfm.blocks.band_drop import drop_bands
from rsfm.blocks.multicrop import draw_views
from rsfm.blocks.view import View
from rsfm.blocks.views import draw_view

half = partial(drop_bands, chance=0.5)


def missing(pixels_BCHW):
    return (pixels_BCHW == 0).all(3).all(2)


def test_each_band_is_missing_as_often_as_asked_and_one_is_left():
    torch.manual_seed(0)
    dropped = missing(drop_bands(torch.ones(4000, 6, 2, 2), 0.3))
    assert torch.allclose(dropped.float().mean(0), torch.full((6,), 0.3), atol=0.03)
    dropped = missing(drop_bands(torch.ones(4000, 2, 2, 2), 0.9))
    assert not dropped.all(1).any()
    assert dropped.any(1).float().mean() > 0.9


def test_a_single_band_stays():
    assert not missing(drop_bands(torch.ones(50, 1, 2, 2), 0.9)).any()


def test_nothing_is_drawn_for_no_chance():
    pixels_BCHW = torch.randn(3, 4, 5, 5)
    state = torch.get_rng_state()
    assert drop_bands(pixels_BCHW, 0.0) is pixels_BCHW
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("kind", ["quick", "published"])
def test_two_views_of_a_window_miss_different_bands(kind):
    torch.manual_seed(0)
    pixels_BCHW, valid_BHW = torch.randn(64, 5, 24, 24), torch.ones(64, 24, 24, dtype=torch.bool)
    first, second = (draw_view(kind, View(pixels_BCHW, valid_BHW), 16, drop=half) for _ in range(2))
    assert missing(first.pixels_BCHW).any()
    assert missing(second.pixels_BCHW).any()
    assert not torch.equal(missing(first.pixels_BCHW), missing(second.pixels_BCHW))
    assert first.valid_BHW.all()


def test_views_of_a_multi_crop_miss_different_bands():
    torch.manual_seed(0)
    window = View(torch.randn(16, 5, 40, 40), torch.ones(16, 40, 40, dtype=torch.bool))
    drawn = draw_views(window, (24, 12), [(0.4, 1.0)] * 2 + [(0.05, 0.4)] * 2, drop=half)
    gone = [missing(one.view.pixels_BCHW) for one in drawn]
    assert all(one.any() for one in gone)
    assert len({tuple(one.flatten().tolist()) for one in gone}) == 4
