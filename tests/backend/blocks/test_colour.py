"""Photometric changes against torchvision's, one window at a time."""

import pytest
import torch
from rsfm.blocks import colour
from torchvision.transforms.v2 import functional


@pytest.fixture
def pixels() -> torch.Tensor:
    return 0.3 + 0.4 * torch.rand(5, 3, 6, 6, generator=torch.Generator().manual_seed(0))


def test_hue_is_torchvisions(pixels):
    turn = torch.tensor([-0.1, 0.0, 0.03, 1 / 6, 0.5])
    theirs = torch.stack([functional.adjust_hue(one, by.item()) for one, by in zip(pixels, turn, strict=True)])
    torch.testing.assert_close(colour.shift_hue_(pixels.clone(), turn), theirs, atol=1e-5, rtol=1e-5)


def test_hue_of_two_equal_bands_is_torchvisions():
    levels = torch.tensor([0.2, 0.7])
    bands = torch.cartesian_prod(levels, levels, levels).T.reshape(1, 3, 2, 4)
    for turn in (-0.4, -0.1, 0.07, 0.1, 1 / 3):
        theirs = functional.adjust_hue(bands, turn)
        torch.testing.assert_close(colour.shift_hue_(bands.clone(), torch.tensor([turn])), theirs, atol=1e-5, rtol=0)


def test_hue_keeps_gray_gray_and_works_beyond_0_and_1():
    gray = torch.full((1, 3, 2, 2), -3.0)
    torch.testing.assert_close(colour.shift_hue_(gray.clone(), torch.tensor([0.1])), gray)
    red = torch.tensor([4.0, -1.0, -1.0])[None, :, None, None]
    assert colour.shift_hue_(red, torch.tensor([1 / 3])).flatten().tolist() == pytest.approx([-1, 4, -1], abs=1e-5)


def test_saturation_contrast_and_brightness_are_torchvisions(pixels):
    factor = torch.tensor([0.6, 0.8, 1.0, 1.1, 1.2])
    valid = torch.ones(5, 6, 6, dtype=torch.bool)
    for ours, theirs in (
        (colour.change_saturation_(pixels.clone(), factor), functional.adjust_saturation),
        (colour.change_contrast_(pixels.clone(), valid, factor), functional.adjust_contrast),
        (colour.change_brightness_(pixels.clone(), factor), functional.adjust_brightness),
    ):
        expected = torch.stack([theirs(one, by.item()) for one, by in zip(pixels, factor, strict=True)])
        torch.testing.assert_close(ours, expected, atol=2e-3, rtol=1e-3)  # torchvision rounds the weights of luma


def test_contrast_of_many_bands_keeps_the_mean_of_each_over_valid_pixels():
    pixels = torch.randn(2, 5, 4, 4)
    valid = torch.rand(2, 4, 4) > 0.3
    changed = colour.change_contrast_(pixels.clone(), valid, torch.tensor([0.6, 1.4]))
    weight = valid[:, None]
    torch.testing.assert_close((changed * weight).sum((2, 3)), (pixels * weight).sum((2, 3)), atol=1e-4, rtol=1e-4)
    ratio = (changed[1] - changed[1].mean()).std() / (pixels[1] - pixels[1].mean()).std()
    assert 1.2 < ratio < 1.5


def test_gray_is_the_mean_of_the_bands_unless_there_are_three():
    pixels = torch.randn(2, 4, 3, 3)
    torch.testing.assert_close(colour.gray(pixels)[:, 0], pixels.mean(1))
    assert colour.gray(torch.eye(3)[:, :, None, None]).flatten().tolist() == pytest.approx([0.299, 0.587, 0.114])
