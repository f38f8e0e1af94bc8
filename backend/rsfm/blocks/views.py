"""Views: augmented copies of windows, made in batch on the device from normalised floats with any number of bands.

Every window draws its own crop and its own photometric change. What is invalid stays 0.
Shape letters: B batch, C bands, H rows, W columns, S side of a view.
"""

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from rsfm.blocks import colour
from rsfm.blocks.resampling import Kernel, blur_weights, resample_valid, resize_weights
from rsfm.errors import UserError

ViewKind = Literal["quick", "published"]
BLACK = 2.0
"""Standard deviations below the mean that count as black where a change is relative to black."""


class View(NamedTuple):
    """One augmented copy of each window: pixels_BCHW, 0 where invalid, and valid_BHW."""

    pixels_BCHW: Tensor
    valid_BHW: Tensor


def draw_view(kind: ViewKind, pixels_BCHW: Tensor, valid_BHW: Tensor, size: int, smallest: float = 0.2) -> View:
    """Draw one view of each window.

    Args:
        smallest: share of the window's area that a published view covers at least.

    Raises:
        UserError: the windows are too small for views of this size.
    """
    if kind == "quick":
        return quick_view(pixels_BCHW, valid_BHW, size)
    return published_view(pixels_BCHW, valid_BHW, size, smallest)


def quick_view(pixels_BCHW: Tensor, valid_BHW: Tensor, size: int) -> View:
    """Crop `size` pixels anywhere, turn and mirror, jitter in standardised units: for imagery from above.

    Raises:
        UserError: the windows are smaller than the view.
    """
    view = turned_crop(pixels_BCHW, valid_BHW, size)
    return View(standardised_jitter(view.pixels_BCHW) * view.valid_BHW[:, None], view.valid_BHW)


def turned_crop(pixels_BCHW: Tensor, valid_BHW: Tensor, size: int) -> View:
    """Cut a square anywhere in each window, in one of its eight orientations.

    Raises:
        UserError: the windows are smaller than the view.
    """
    count, _, height, width = pixels_BCHW.shape
    if size > min(height, width):
        raise UserError(
            f"A view of {size} px does not fit into a window of {height} x {width} px. "
            "Make 'Window' larger, or 'View size' smaller.",
            "method.view_size",
        )
    device = pixels_BCHW.device
    rows_BS1 = _cut(count, height, size, device)[:, :, None]
    columns_B1S = _cut(count, width, size, device)[:, None, :]
    batch_B11 = torch.arange(count, device=device)[:, None, None]
    pixels_BCSS = pixels_BCHW.permute(0, 2, 3, 1)[batch_B11, rows_BS1, columns_B1S].permute(0, 3, 1, 2)
    valid_BSS = valid_BHW[batch_B11, rows_BS1, columns_B1S]
    turned_B = torch.rand(count, device=device) < 0.5
    return View(
        torch.where(turned_B[:, None, None, None], pixels_BCSS.mT, pixels_BCSS),
        torch.where(turned_B[:, None, None], valid_BSS.mT, valid_BSS),
    )


def standardised_jitter(pixels_BCHW: Tensor) -> Tensor:
    """Change gain, offset, offset of each band, and noise, in standard deviations."""
    count, bands = pixels_BCHW.shape[:2]

    def normal(bands: int) -> Tensor:
        return torch.randn(count, bands, 1, 1, device=pixels_BCHW.device, dtype=pixels_BCHW.dtype)

    gain, offset, band_offset = 1 + 0.2 * normal(1), 0.2 * normal(1), 0.1 * normal(bands)
    noise_BCHW = torch.randn(pixels_BCHW.shape, device=pixels_BCHW.device)  # in order: five times as fast as randn_like
    noise_BCHW *= 0.1 * torch.rand_like(gain)
    return pixels_BCHW * gain + offset + band_offset + noise_BCHW


def published_view(pixels_BCHW: Tensor, valid_BHW: Tensor, size: int, smallest: float = 0.2) -> View:
    """Make a view as MoCo v2 does: resized crop, colour, gray, blur, mirror.

    Chen et al., 2020, arXiv:2003.04297; for other numbers of bands than three as SSL4EO-S12 does (Wang et al., 2023,
    arXiv:2211.07044): no hue and saturation, gray is the mean of the bands. The order of the colour changes is drawn
    once for the batch. The blur's 0.1 to 2 px belong to views of 224 px and shrink with them.
    """
    view = resized_crop(pixels_BCHW, valid_BHW, (size, size), "bilinear", smallest)
    pixels_BCSS, count, device = view.pixels_BCHW, len(view.pixels_BCHW), view.pixels_BCHW.device
    light_BCSS = (pixels_BCSS + BLACK) / (2 * BLACK)
    light_BCSS = _sometimes(0.8, _jitter_colour(light_BCSS, view.valid_BHW), light_BCSS)
    light_BCSS = _sometimes(0.2, colour.gray(light_BCSS).expand_as(light_BCSS), light_BCSS)
    changed_BCSS = (light_BCSS * (2 * BLACK) - BLACK) * view.valid_BHW[:, None]
    sigma_B = _uniform(count, 0.1, 2.0, device) * size / 224
    weights_BSS = blur_weights(sigma_B, size)
    blurred_BCSS, enough_BSS = resample_valid(changed_BCSS, view.valid_BHW, weights_BSS, weights_BSS)
    blurred_BCSS = torch.where(enough_BSS[:, None], blurred_BCSS, changed_BCSS)
    changed_BCSS = _sometimes(0.5, blurred_BCSS, changed_BCSS)
    return View(changed_BCSS * view.valid_BHW[:, None], view.valid_BHW)


def resized_crop(
    pixels_BCHW: Tensor, valid_BHW: Tensor, size: tuple[int, int], kernel: Kernel, smallest: float = 0.2
) -> View:
    """Cut out of each window with an aspect of 3/4 to 4/3, resize it to `size`, mirror every other.

    Args:
        smallest: share of the window's area that is cut out at least.
    """
    count, _, height, width = pixels_BCHW.shape
    device = pixels_BCHW.device
    area_B = _uniform(count, smallest, 1.0, device) * height * width
    aspect_B = torch.exp(_uniform(count, math.log(3 / 4), math.log(4 / 3), device))
    high_B = (area_B / aspect_B).sqrt().round().clamp(1, height)
    wide_B = (area_B * aspect_B).sqrt().round().clamp(1, width)
    top_B = (torch.rand(count, device=device) * (height - high_B + 1)).floor()
    left_B = (torch.rand(count, device=device) * (width - wide_B + 1)).floor()
    rows_BMN = resize_weights(top_B, high_B, height, size[0], kernel)
    columns_BMN = resize_weights(left_B, wide_B, width, size[1], kernel)
    columns_BMN = _sometimes(0.5, columns_BMN.flip(1), columns_BMN)
    return View(*resample_valid(pixels_BCHW, valid_BHW, rows_BMN, columns_BMN))


def _jitter_colour(light_BCHW: Tensor, valid_BHW: Tensor) -> Tensor:
    """Change brightness and contrast by up to 40 %; for three bands saturation by 40 % and hue by 10 % as well."""
    count, device = len(light_BCHW), light_BCHW.device
    three = light_BCHW.shape[1] == len(colour.LUMA)
    for change in torch.randperm(4).tolist() if three else (0, 1):
        factor_B = _uniform(count, 0.6, 1.4, device)
        if change == 0:
            light_BCHW = colour.change_brightness(light_BCHW, factor_B)
        elif change == 1:
            light_BCHW = colour.change_contrast(light_BCHW, valid_BHW, factor_B)
        elif change == 2:
            light_BCHW = colour.change_saturation(light_BCHW, factor_B)
        else:
            light_BCHW = colour.shift_hue(light_BCHW, _uniform(count, -0.1, 0.1, device))
    return light_BCHW


def _cut(count: int, cells: int, size: int, device: torch.device) -> Tensor:
    """Draw consecutive indices_BS along an axis, forwards or backwards."""
    start_B = torch.randint(cells - size + 1, (count,), device=device)
    step_S = torch.arange(size, device=device)
    backwards_B1 = torch.rand(count, 1, device=device) < 0.5
    return start_B[:, None] + torch.where(backwards_B1, size - 1 - step_S, step_S)


def _sometimes(share: float, changed: Tensor, kept: Tensor) -> Tensor:
    """Take the changed copy of a share of the windows."""
    chosen_B = torch.rand(len(kept), device=kept.device) < share
    return torch.where(chosen_B.view(-1, *[1] * (kept.ndim - 1)), changed, kept)


def _uniform(count: int, low: float, high: float, device: torch.device) -> Tensor:
    return low + (high - low) * torch.rand(count, device=device)
