import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rsfm.blocks.crops import cut, draw_crop
from rsfm.blocks.resampling import Rectangles
from torch import Tensor

CPU = torch.device("cpu")


def box(top: int, left: int, height: int, width: int, mirrored: bool = False, upside_down: bool = False) -> Rectangles:
    numbers = [torch.tensor([float(value)]) for value in (top, left, height, width)]
    return Rectangles(*numbers, torch.tensor([mirrored]), torch.tensor([upside_down]))


@settings(max_examples=40, deadline=None)
@given(height=st.integers(1, 60), width=st.integers(1, 60), low=st.floats(0.01, 1), high=st.floats(0.01, 1))
def test_rectangles_lie_inside_and_are_whole_pixels(height, width, low, high):
    crop = draw_crop(20, height, width, (min(low, high), max(low, high)), CPU)
    assert (crop.height_B >= 1).all()
    assert (crop.width_B >= 1).all()
    assert (crop.top_B >= 0).all()
    assert (crop.left_B >= 0).all()
    assert (crop.top_B + crop.height_B <= height).all()
    assert (crop.left_B + crop.width_B <= width).all()
    for side in crop[:4]:
        assert torch.equal(side, side.round())


def test_areas_and_aspects_are_those_asked_for():
    torch.manual_seed(0)
    crop = draw_crop(4000, 200, 200, (0.1, 0.3), CPU)
    share, aspect = crop.height_B * crop.width_B / 200**2, crop.width_B / crop.height_B
    assert 0.098 < share.min() < 0.105
    assert 0.295 < share.max() < 0.302
    assert share.mean().item() == pytest.approx(0.2, abs=0.005)
    assert aspect.log().mean().item() == pytest.approx(0, abs=0.01)
    assert aspect.log().abs().max().item() == pytest.approx(math.log(4 / 3), abs=0.02)
    assert crop.mirrored_B.float().mean().item() == pytest.approx(0.5, abs=0.03)
    assert not crop.upside_down_B.any()


@pytest.mark.parametrize(("mirrored", "upside_down"), [(False, False), (True, False), (False, True), (True, True)])
def test_cut_at_its_own_size_is_the_rectangle_itself(mirrored, upside_down):
    pixels = torch.randn(1, 2, 20, 24)
    view = cut(pixels, torch.ones(1, 20, 24, dtype=torch.bool), box(3, 5, 8, 8, mirrored, upside_down), 8, "bicubic")
    expected = pixels[:, :, 3:11, 5:13]
    expected = expected.flip(3) if mirrored else expected
    expected = expected.flip(2) if upside_down else expected
    torch.testing.assert_close(view.pixels_BCHW, expected)


@pytest.mark.parametrize("kernel", ["bilinear", "bicubic"])
def test_nothing_passes_the_range_of_a_window(kernel):
    pixels = (torch.rand(1, 3, 30, 30) > 0.5).float() * torch.tensor([1.0, 5.0, 0.0])[None, :, None, None] + 1
    view = cut(pixels, torch.ones(1, 30, 30, dtype=torch.bool), box(2, 2, 10, 12), 33, kernel)
    for band, high in enumerate((2, 6, 1)):
        values = view.pixels_BCHW[:, band]
        assert values.min() >= 1 - 1e-6
        assert values.max() <= high + 1e-6


def test_nodata_lends_nothing_and_stays_nodata():
    pixels, valid = torch.full((1, 1, 20, 20), 7.0), torch.ones(1, 20, 20, dtype=torch.bool)
    valid[:, :, 10:] = False
    view = cut(pixels * valid[:, None], valid, box(0, 4, 12, 12), 24, "bicubic")
    assert np.allclose(view.pixels_BCHW[view.valid_BHW[:, None]], 7, atol=1e-5)
    assert not view.pixels_BCHW[~view.valid_BHW[:, None]].any()
    assert view.valid_BHW[0, 0].tolist() == [True] * 12 + [False] * 12


def test_views_of_a_pair_share_the_rectangle():
    first, second = torch.randn(4, 1, 30, 30), torch.randn(4, 1, 30, 30)
    crop, valid = draw_crop(4, 30, 30, (0.2, 0.6), CPU, turn=0.5), torch.ones(4, 30, 30, dtype=torch.bool)
    both: Tensor = cut(torch.cat([first, second], dim=1), valid, crop, 12, "bilinear").pixels_BCHW
    torch.testing.assert_close(both[:, :1], cut(first, valid, crop, 12, "bilinear").pixels_BCHW)
    torch.testing.assert_close(both[:, 1:], cut(second, valid, crop, 12, "bilinear").pixels_BCHW)
