"""What a view may change, and what it may not."""

import pytest
import torch
from rsfm.blocks.view import View
from rsfm.blocks.views import (
    draw_view,
    plain_crop,
    published_view,
    quick_view,
    resized_crop,
    standardised_jitter,
    turned_crop,
)
from rsfm.errors import UserError
from torch import Tensor

KINDS = ["quick", "published"]


def windows(count: int = 6, bands: int = 5, height: int = 40, width: int = 40) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    valid_BHW = torch.rand(count, height, width, generator=generator) > 0.2
    return torch.randn(count, bands, height, width, generator=generator) * valid_BHW[:, None], valid_BHW


@pytest.mark.parametrize("bands", [1, 3, 13])
@pytest.mark.parametrize("kind", KINDS)
def test_view_has_the_size_asked_for_and_is_0_where_invalid(kind, bands):
    torch.manual_seed(0)
    view = draw_view(kind, View(*windows(bands=bands)), 32)
    assert view.pixels_BCHW.shape == (6, bands, 32, 32)
    assert view.valid_BHW.shape == (6, 32, 32)
    assert torch.isfinite(view.pixels_BCHW).all()
    assert not view.pixels_BCHW[(~view.valid_BHW)[:, None].expand_as(view.pixels_BCHW)].any()
    assert 0.5 < view.valid_BHW.float().mean() < 1


@pytest.mark.parametrize("kind", KINDS)
def test_nodata_lends_nothing_to_its_neighbours(kind):
    pixels, valid = windows()
    torch.manual_seed(0)
    clean = draw_view(kind, View(pixels, valid), 32)
    torch.manual_seed(0)
    dirty = draw_view(kind, View(torch.where(valid[:, None], pixels, 0), valid), 32)
    torch.testing.assert_close(clean.pixels_BCHW, dirty.pixels_BCHW)
    constant = torch.full_like(pixels, 5) * valid[:, None]
    view = resized_crop(constant, valid, (32, 32), "bilinear")
    inside = view.pixels_BCHW[view.valid_BHW[:, None].expand_as(view.pixels_BCHW)]
    torch.testing.assert_close(inside, torch.full_like(inside, 5))


@pytest.mark.parametrize("bands", [3, 5])
def test_published_view_of_a_constant_window_is_constant_up_to_its_nodata(bands):
    torch.manual_seed(0)
    _, valid = windows(40, height=224, width=224)
    level_BC = torch.randn(40, bands)
    view = published_view(level_BC[:, :, None, None] * valid[:, None], valid, 224)
    highest = view.pixels_BCHW.masked_fill(~view.valid_BHW[:, None], -torch.inf).amax((2, 3))
    lowest = view.pixels_BCHW.masked_fill(~view.valid_BHW[:, None], torch.inf).amin((2, 3))
    torch.testing.assert_close(highest, lowest, atol=1e-4, rtol=1e-4)


def test_turned_crop_is_one_of_the_eight_orientations_of_a_square_of_the_window():
    torch.manual_seed(0)
    pixels = torch.arange(7.0 * 6).reshape(1, 1, 7, 6).expand(200, -1, -1, -1)
    valid = torch.ones(200, 7, 6, dtype=torch.bool)
    squares = pixels[0, 0].unfold(0, 5, 1).unfold(1, 5, 1).reshape(-1, 5, 5)
    known = {
        tuple(turned.flatten().tolist())
        for square in squares
        for mirrored in (square, square.flip(0))
        for turned in (torch.rot90(mirrored, quarter) for quarter in range(4))
    }
    seen = {tuple(crop.flatten().tolist()) for crop in turned_crop(pixels, valid, 5).pixels_BCHW}
    assert len(known) == 3 * 2 * 8
    assert seen <= known
    assert len(seen) > 40


def test_plain_crop_is_a_square_of_the_window_as_it_lies():
    torch.manual_seed(0)
    pixels = torch.arange(7.0 * 6).reshape(1, 1, 7, 6).expand(200, -1, -1, -1)
    squares = pixels[0, 0].unfold(0, 5, 1).unfold(1, 5, 1).reshape(-1, 5, 5)
    window = View(pixels, torch.ones(200, 7, 6, dtype=torch.bool))
    seen = {tuple(crop.flatten().tolist()) for crop in plain_crop("quick", window, 5).pixels_BCHW}
    assert seen == {tuple(square.flatten().tolist()) for square in squares}


def test_plain_crop_as_published_mirrors_none_and_changes_no_colour():
    torch.manual_seed(0)
    ramp = torch.arange(64.0).expand(500, 4, 64, 64)
    view = plain_crop("published", View(ramp, torch.ones(500, 64, 64, dtype=torch.bool)), 16)
    assert (view.pixels_BCHW.diff(dim=3) > 0).all()
    assert torch.equal(view.pixels_BCHW[:, 0], view.pixels_BCHW[:, 3])
    assert view.pixels_BCHW.min() >= 0
    assert view.pixels_BCHW.max() <= 63


def test_turned_crop_turns_the_mask_with_the_pixels():
    torch.manual_seed(0)
    pixels, valid = windows(50)
    view = turned_crop(valid[:, None].float().expand(-1, 2, -1, -1), valid, 32)
    assert torch.equal(view.pixels_BCHW[:, 0] > 0, view.valid_BHW)
    assert pixels.shape[1] == 5


def test_jitter_in_standardised_units_has_the_strengths_it_says():
    torch.manual_seed(0)
    changed = standardised_jitter(torch.zeros(4000, 2, 16, 16))
    mean_BC = changed.mean((2, 3))
    assert mean_BC.mean(1).std().item() == pytest.approx((0.2**2 + 0.1**2 / 2) ** 0.5, rel=0.05)
    assert ((mean_BC[:, 0] - mean_BC[:, 1]) / 2**0.5).std().item() == pytest.approx(0.1, rel=0.05)
    gain = standardised_jitter(torch.full((4000, 1, 4, 4), 100.0)).mean((1, 2, 3)) / 100
    assert gain.std().item() == pytest.approx(0.2, rel=0.05)
    noise_B = (changed - mean_BC[:, :, None, None]).std((1, 2, 3))
    assert noise_B.max() < 0.12
    assert noise_B.mean().item() == pytest.approx(0.05, rel=0.1)


def test_resized_crop_keeps_a_fifth_to_all_of_the_area_and_mirrors_every_other():
    torch.manual_seed(0)
    ramp = torch.arange(64.0).expand(2000, 1, 64, 64)
    valid = torch.ones(2000, 64, 64, dtype=torch.bool)
    across = resized_crop(ramp, valid, (16, 16), "bilinear").pixels_BCHW[:, 0]
    torch.manual_seed(0)
    down = resized_crop(ramp.mT, valid, (16, 16), "bilinear").pixels_BCHW[:, 0]
    step = (across[:, 0, 8] - across[:, 0, 7]) * 16  # of an axis: its length, with the sign of the mirror
    area = step.abs() * (down[:, 8, 0] - down[:, 7, 0]) * 16 / 64**2
    assert area.min() > 0.18
    assert area.max() < 1.01
    assert area.mean().item() == pytest.approx(0.6, abs=0.03)
    assert (step < 0).float().mean().item() == pytest.approx(0.5, abs=0.05)


def test_published_view_of_three_bands_is_gray_for_a_fifth():
    torch.manual_seed(0)
    pixels, valid = torch.randn(1000, 3, 8, 8), torch.ones(1000, 8, 8, dtype=torch.bool)
    view = published_view(pixels, valid, 8).pixels_BCHW
    gray_B = (view - view[:, :1]).abs().amax((1, 2, 3)) < 1e-5
    assert gray_B.float().mean().item() == pytest.approx(0.2, abs=0.05)


def test_a_window_smaller_than_the_view_is_said():
    with pytest.raises(UserError, match="does not fit into a window of 40 x 40 px"):
        quick_view(*windows(), 48)
