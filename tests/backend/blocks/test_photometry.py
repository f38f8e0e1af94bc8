import pytest
import torch
from rsfm.blocks.photometry import Chances, Light, change_light, draw_light, relight
from rsfm.blocks.view import View
from torchvision.transforms.v2 import functional as torchvision_functional

CPU = torch.device("cpu")
VALID = torch.ones(1, 12, 12, dtype=torch.bool)


def light(factors=(1.0, 1.0, 1.0, 0.0), order=(0, 1, 2, 3), jitter=True, gray=False, sigma=0.0, invert=False) -> Light:
    flags = [torch.tensor([flag]) for flag in (jitter, gray)]
    return Light(order, torch.tensor(factors)[:, None], *flags, torch.tensor([sigma]), torch.tensor([invert]))


@pytest.mark.parametrize(
    ("change", "theirs"),
    [
        (0, torchvision_functional.adjust_brightness),
        (1, torchvision_functional.adjust_contrast),
        (2, torchvision_functional.adjust_saturation),
        (3, torchvision_functional.adjust_hue),
    ],
)
@pytest.mark.parametrize("strength", [-1.0, 0.3, 1.0])
def test_colours_of_three_bands_are_torchvisions(change, theirs, strength):
    pixels = torch.rand(1, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    factor = 0.1 * strength if change == 3 else 1 + 0.4 * strength
    factors = [1.0, 1.0, 1.0, 0.0]
    factors[change] = factor
    ours = change_light(pixels, VALID, light(tuple(factors)))
    torch.testing.assert_close(ours, theirs(pixels, factor), atol=2e-3, rtol=0)  # their luma has rounded weights


@pytest.mark.parametrize("bands", [1, 2, 4, 13])
def test_other_numbers_of_bands_have_no_hue_and_saturation_and_gray_is_their_mean(bands):
    pixels = torch.rand(1, bands, 12, 12)
    torch.testing.assert_close(change_light(pixels, VALID, light((1.0, 1.0, 3.0, 0.3))), pixels)
    gray = change_light(pixels, VALID, light(jitter=False, gray=True))
    torch.testing.assert_close(gray, pixels.mean(1, keepdim=True).expand_as(pixels))


def test_contrast_of_a_band_is_about_its_own_mean_over_valid_pixels():
    pixels, valid = torch.rand(1, 4, 12, 12) * 0.2 + 0.4, VALID.clone()
    valid[:, :6] = False
    ours = change_light(pixels, valid, light((1.0, 1.4, 1.0, 0.0), order=(1,)))
    kept = pixels[:, :, 6:]
    mean = kept.mean((2, 3), keepdim=True)
    torch.testing.assert_close(ours[:, :, 6:], mean + 1.4 * (kept - mean))


def test_light_stays_between_black_and_white_or_where_a_float_raster_was():
    pixels = torch.rand(1, 3, 12, 12)
    bright = change_light(pixels, VALID, light((1.4, 1.4, 1.2, 0.1)))
    assert bright.min() >= 0
    assert bright.max() <= 1
    wide = pixels * 4 - 1
    brighter = change_light(wide, VALID, light((1.4, 1.0, 1.0, 0.0)))
    assert brighter.max().item() == pytest.approx(wide.max().item())
    assert brighter.min().item() == pytest.approx(wide.min().item())


def test_bright_pixels_are_inverted_and_dark_ones_kept():
    pixels = torch.tensor([0.0, 0.3, 127 / 255, 128 / 255, 0.9, 1.0]).reshape(1, 1, 1, 6)
    ours = change_light(pixels, torch.ones(1, 1, 6, dtype=torch.bool), light(jitter=False, invert=True))
    torch.testing.assert_close(ours.flatten(), torch.tensor([0.0, 0.3, 127 / 255, 127 / 255, 0.1, 0.0]))


def test_blur_is_torchvisions_and_leaves_a_sigma_of_0_alone():
    pixels = torch.rand(2, 3, 12, 12)
    both = light(jitter=False)._replace(sigma_B=torch.tensor([0.0, 1.0]))
    ours = change_light(pixels, VALID.expand(2, -1, -1), both)
    theirs = torchvision_functional.gaussian_blur(pixels, [9, 9], [1.0, 1.0])
    assert torch.equal(ours[0], pixels[0])
    torch.testing.assert_close(ours[1, :, 4:-4, 4:-4], theirs[1, :, 4:-4, 4:-4], atol=1e-3, rtol=0)


def test_changes_happen_as_often_as_they_should():
    torch.manual_seed(0)
    drawn = draw_light(4000, Chances(0.8, 0.2, 0.5, 0.1), 0.5, CPU)
    shares = [
        flags.float().mean().item() for flags in (drawn.jittered_B, drawn.gray_B, drawn.sigma_B > 0, drawn.inverted_B)
    ]
    assert shares == pytest.approx([0.8, 0.2, 0.5, 0.1], abs=0.03)
    assert sorted(drawn.order) == [0, 1, 2, 3]
    for factor, (low, high) in zip(drawn.factors_4B, [(0.6, 1.4), (0.6, 1.4), (0.8, 1.2), (-0.1, 0.1)], strict=True):
        assert low <= factor.min() < low + 0.01
        assert high - 0.01 < factor.max() <= high
    blurred = drawn.sigma_B[drawn.sigma_B > 0]
    assert blurred.min() >= 0.05
    assert blurred.max() <= 1.0


def test_nodata_stays_nodata():
    valid = VALID.clone()
    valid[:, ::2] = False
    view = View(torch.randn(1, 4, 12, 12) * valid[:, None], valid)
    changed = relight(view, light((1.3, 0.7, 1.0, 0.0), gray=True, sigma=1.5, invert=True))
    assert not changed.pixels_BCHW[~valid[:, None].expand_as(changed.pixels_BCHW)].any()
    assert torch.isfinite(changed.pixels_BCHW).all()
