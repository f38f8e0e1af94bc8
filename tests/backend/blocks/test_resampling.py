"""Resampling against torch's own, one window at a time."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rsfm.blocks.resampling import blur_axis, matrix_axis, resample, resample_valid, resize_axis
from torch.nn import functional


@settings(max_examples=40, deadline=None)
@given(
    start=st.integers(0, 10),
    length=st.integers(1, 20),
    target=st.integers(1, 30),
    kernel=st.sampled_from(["bilinear", "bicubic"]),
)
def test_resizing_a_cut_is_torchs_antialiased_interpolation_of_the_cut_alone(start, length, target, kernel):
    pixels = torch.randn(1, 2, 9, 30, generator=torch.Generator().manual_seed(start))
    columns = resize_axis(torch.tensor([start]), torch.tensor([length]), 30, target, kernel)
    ours = resample(pixels, matrix_axis(torch.eye(9)[None]), columns)
    cut = pixels[..., start : start + length]
    theirs = functional.interpolate(cut, size=(9, target), mode=kernel, antialias=True, align_corners=False)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_every_window_has_its_own_cut():
    pixels = torch.randn(3, 1, 8, 8)
    start, length = torch.tensor([0, 2, 4]), torch.tensor([4, 4, 4])
    weights = resize_axis(start, length, 8, 4, "bilinear")
    ours = resample(pixels, weights, weights)
    for window in range(3):
        place = slice(2 * window, 2 * window + 4)
        torch.testing.assert_close(ours[window], pixels[window, :, place, place])


def test_invalid_pixels_take_no_part_and_half_valid_cells_count():
    pixels = torch.tensor([[[[1.0, 0.0, 3.0, 5.0]]]])
    valid = torch.tensor([[[True, False, True, True]]])
    weights = torch.tensor([[[0.5, 0.5, 0, 0], [0, 0.6, 0.4, 0], [0, 0, 0.5, 0.5]]])
    ours, seen = resample_valid(pixels, valid, matrix_axis(torch.ones(1, 1, 1)), matrix_axis(weights))
    assert ours.flatten().tolist() == [1, 0, 4]
    assert seen.flatten().tolist() == [True, False, True]


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.0])
def test_blur_is_a_gaussian_and_0_changes_nothing(sigma):
    weights = blur_axis(torch.tensor([sigma, 0.0]), 41).matrix()
    torch.testing.assert_close(weights[1], torch.eye(41))
    distance = torch.arange(41.0) - 20
    expected = torch.exp(-distance.square() / (2 * sigma**2))
    torch.testing.assert_close(weights[0, 20], expected / expected.sum())
    torch.testing.assert_close(weights.sum(2), torch.ones(2, 41))
