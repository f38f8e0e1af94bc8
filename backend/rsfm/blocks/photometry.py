"""What light does to a window: brightness, contrast, saturation, hue, gray, blur and inversion, drawn then applied.

Pixels are taken as light between black (0) and white (1). As in an image of 8 bits no change leaves that range, except
that what was outside of it before, in float rasters, may stay where it was.

Shape letters: B batch, C bands, H rows, W columns.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from rsfm.blocks import colour
from rsfm.blocks.resampling import blur_weights, resample_valid
from rsfm.blocks.views import BLACK, View


class Chances(NamedTuple):
    """How often each change happens; blur has a sigma of 0.1 to 2 px in a view of 224 px, and less in a smaller one."""

    jitter: float = 0.8
    gray: float = 0.2
    blur: float = 0.0
    invert: float = 0.0


class Light(NamedTuple):
    """The changes of each window.

    Attributes:
        order: of brightness (0), contrast (1), saturation (2) and hue (3), the same for the batch.
        factors_4B: three factors and the turn of the hue as a share of the circle; used where jittered.
        sigma_B: of the blur in pixels; 0 is none.
    """

    order: tuple[int, ...]
    factors_4B: Tensor
    jittered_B: Tensor
    gray_B: Tensor
    sigma_B: Tensor
    inverted_B: Tensor


def draw_light(count: int, chances: Chances, shrink: float, device: torch.device) -> Light:
    """Draw brightness and contrast of 0.6 to 1.4, saturation of 0.8 to 1.2, a hue turned by up to a tenth.

    Args:
        shrink: how much smaller than published the views are; the blur shrinks with them.
    """
    spread_41 = torch.tensor([0.4, 0.4, 0.2, 0.1], device=device)[:, None]
    factors_4B = spread_41 * (2 * torch.rand(4, count, device=device) - 1)
    factors_4B[:3] += 1
    chance_4B = torch.rand(4, count, device=device)
    sigma_B = (0.1 + 1.9 * torch.rand(count, device=device)) * shrink
    return Light(
        tuple(torch.randperm(4).tolist()),
        factors_4B,
        chance_4B[0] < chances.jitter,
        chance_4B[1] < chances.gray,
        sigma_B * (chance_4B[2] < chances.blur),
        chance_4B[3] < chances.invert,
    )


def relight(view: View, light: Light) -> View:
    """Apply changes to standardised pixels: BLACK standard deviations below the mean are black, as much above white."""
    light_BCHW = change_light((view.pixels_BCHW + BLACK) / (2 * BLACK), view.valid_BHW, light)
    return View((light_BCHW * (2 * BLACK) - BLACK) * view.valid_BHW[:, None], view.valid_BHW)


def change_light(light_BCHW: Tensor, valid_BHW: Tensor, light: Light) -> Tensor:
    """Apply changes to light: the colours in their order, then gray, blur and inversion.

    Saturation and hue are those of three bands; other numbers of bands have neither, and gray is their mean.
    """
    low_B111 = light_BCHW.amin((1, 2, 3), keepdim=True).clamp(max=0)
    high_B111 = light_BCHW.amax((1, 2, 3), keepdim=True).clamp(min=1)
    for change in light.order:
        changed_BCHW = _change(change, light_BCHW, valid_BHW, light.factors_4B[change])
        light_BCHW = _where(light.jittered_B, changed_BCHW.clamp(low_B111, high_B111), light_BCHW)
    light_BCHW = _where(light.gray_B, colour.gray(light_BCHW).expand_as(light_BCHW), light_BCHW)
    if light.sigma_B.any():
        rows_BHH, columns_BWW = (blur_weights(light.sigma_B, cells) for cells in light_BCHW.shape[2:])
        blurred_BCHW, enough_BHW = resample_valid(light_BCHW, valid_BHW, rows_BHH, columns_BWW)
        light_BCHW = torch.where(
            (light.sigma_B > 0)[:, None, None, None] & enough_BHW[:, None], blurred_BCHW, light_BCHW
        )
    inverted_BCHW = torch.where(light_BCHW >= 0.5, 1 - light_BCHW, light_BCHW).clamp(low_B111, high_B111)
    return _where(light.inverted_B, inverted_BCHW, light_BCHW)


def _change(change: int, light_BCHW: Tensor, valid_BHW: Tensor, factor_B: Tensor) -> Tensor:
    if change == 0:
        return colour.change_brightness(light_BCHW, factor_B)
    if change == 1:
        return colour.change_contrast(light_BCHW, valid_BHW, factor_B)
    if light_BCHW.shape[1] != len(colour.LUMA):
        return light_BCHW
    return (colour.change_saturation if change == 2 else colour.shift_hue)(light_BCHW, factor_B)


def _where(chosen_B: Tensor, changed_BCHW: Tensor, kept_BCHW: Tensor) -> Tensor:
    return torch.where(chosen_B[:, None, None, None], changed_BCHW, kept_BCHW)
