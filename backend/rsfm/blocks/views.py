"""Views: augmented copies of windows, made in batch on the device from normalised floats with any number of bands.

Every window draws its own crop and its own photometric change. What is invalid stays 0.
Shape letters: B batch, C bands, H rows, W columns, S side of a view.
"""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from rsfm.blocks import colour
from rsfm.blocks.photometry import Light, relight
from rsfm.blocks.ranks import own_rows, ranks
from rsfm.blocks.resampling import Kernel, Rectangles, resize_valid
from rsfm.blocks.view import View, make_in_pieces
from rsfm.errors import UserError

ViewKind = Literal["quick", "published"]


def draw_view(
    kind: ViewKind,
    window: View,
    size: int,
    smallest: float = 0.2,
    drop: Callable[[Tensor], Tensor] | None = None,
) -> View:
    """Draw one view of each window.

    Args:
        smallest: share of the window's area that a published view covers at least.
        drop: takes bands out of the pixels of a view.

    Raises:
        UserError: the windows are too small for views of this size.
    """
    view = quick_view(*window, size) if kind == "quick" else published_view(*window, size, smallest)
    return view if drop is None else View(drop(view.pixels_BCHW), view.valid_BHW)


def plain_crop(kind: ViewKind, window: View, size: int, smallest: float = 0.2) -> View:
    """Cut one rectangle out of each window as `draw_view` does, and change nothing else: no mirror, turn or colour."""
    if kind == "quick":
        return turned_crop(*window, size, turn=False)
    return resized_crop(*window, (size, size), "bilinear", smallest, mirror=False)


def quick_view(pixels_BCHW: Tensor, valid_BHW: Tensor, size: int) -> View:
    """Crop `size` pixels anywhere, turn and mirror, jitter in standardised units: for imagery from above.

    Raises:
        UserError: the windows are smaller than the view.
    """
    view = turned_crop(pixels_BCHW, valid_BHW, size)
    return View(standardised_jitter(view.pixels_BCHW) * view.valid_BHW[:, None], view.valid_BHW)


def turned_crop(pixels_BCHW: Tensor, valid_BHW: Tensor, size: int, turn: bool = True) -> View:
    """Cut a square anywhere in each window, in one of its eight orientations if `turn`, else as it lies.

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
    rows_BS1 = _cut(count, height, size, device, turn)[:, :, None]
    columns_B1S = _cut(count, width, size, device, turn)[:, None, :]
    batch_B11 = torch.arange(count, device=device)[:, None, None]
    pixels_BCSS = pixels_BCHW.permute(0, 2, 3, 1)[batch_B11, rows_BS1, columns_B1S].permute(0, 3, 1, 2)
    valid_BSS = valid_BHW[batch_B11, rows_BS1, columns_B1S]
    if not turn:
        return View(pixels_BCSS, valid_BSS)
    turned_B = _uniform(count, 0, 1, device) < 0.5
    return View(
        torch.where(turned_B[:, None, None, None], pixels_BCSS.mT, pixels_BCSS),
        torch.where(turned_B[:, None, None], valid_BSS.mT, valid_BSS),
    )


def standardised_jitter(pixels_BCHW: Tensor) -> Tensor:
    """Change gain, offset, offset of each band, and noise, in standard deviations."""
    count, bands = pixels_BCHW.shape[:2]

    def normal(bands: int) -> Tensor:
        shape = (count * ranks(), bands, 1, 1)
        return own_rows(torch.randn(shape, device=pixels_BCHW.device, dtype=pixels_BCHW.dtype))

    gain, offset, band_offset = 1 + 0.2 * normal(1), 0.2 * normal(1), 0.1 * normal(bands)
    shape = (count * ranks(), *pixels_BCHW.shape[1:])
    noise_BCHW = own_rows(torch.randn(shape, device=pixels_BCHW.device))  # in order: five times as fast as randn_like
    noise_BCHW *= 0.1 * _uniform(count, 0, 1, pixels_BCHW.device)[:, None, None, None]
    return pixels_BCHW * gain + offset + band_offset + noise_BCHW


def published_view(pixels_BCHW: Tensor, valid_BHW: Tensor, size: int, smallest: float = 0.2) -> View:
    """Make a view as MoCo v2 does: resized crop, colour, gray, blur, mirror.

    Chen et al., 2020, arXiv:2003.04297; for other numbers of bands than three as SSL4EO-S12 does (Wang et al., 2023,
    arXiv:2211.07044): no hue and saturation, gray is the mean of the bands. The order of the colour changes is drawn
    once for the batch. The blur's 0.1 to 2 px belong to views of 224 px and shrink with them.
    """
    view = resized_crop(pixels_BCHW, valid_BHW, (size, size), "bilinear", smallest)
    count, bands = pixels_BCHW.shape[:2]
    return relight(view, _draw_light(count, bands, size, pixels_BCHW.device), clamped=False)


def resized_crop(
    pixels_BCHW: Tensor,
    valid_BHW: Tensor,
    size: tuple[int, int],
    kernel: Kernel,
    smallest: float = 0.2,
    mirror: bool = True,
) -> View:
    """Cut out of each window with an aspect of 3/4 to 4/3, resize it to `size`, mirror every other.

    Args:
        smallest: share of the window's area that is cut out at least.
        mirror: False mirrors none.
    """
    count, _, height, width = pixels_BCHW.shape
    device = pixels_BCHW.device
    area_B = _uniform(count, smallest, 1.0, device) * height * width
    aspect_B = torch.exp(_uniform(count, math.log(3 / 4), math.log(4 / 3), device))
    high_B = (area_B / aspect_B).sqrt().round().clamp(1, height)
    wide_B = (area_B * aspect_B).sqrt().round().clamp(1, width)
    top_B = (_uniform(count, 0, 1, device) * (height - high_B + 1)).floor()
    left_B = (_uniform(count, 0, 1, device) * (width - wide_B + 1)).floor()
    mirrored_B = _uniform(count, 0, 1, device) < (0.5 if mirror else 0)

    place = Rectangles(top_B, left_B, high_B, wide_B, mirrored_B, torch.zeros_like(mirrored_B))

    def make(piece: slice) -> View:
        return View(*resize_valid(pixels_BCHW[piece], valid_BHW[piece], place.of(piece), size, kernel))

    return make_in_pieces(make, pixels_BCHW, size)


def _draw_light(count: int, bands: int, size: int, device: torch.device) -> Light:
    """Draw brightness, contrast and saturation of 0.6 to 1.4, a hue turned by up to a tenth, gray and blur."""
    order = tuple(torch.randperm(4).tolist()) if bands == len(colour.LUMA) else (0, 1)
    factors_4B = torch.ones(4, count, device=device)
    for change in order:
        factors_4B[change] = _uniform(count, 0.6, 1.4, device)
        if change == 3:
            factors_4B[change] = _uniform(count, -0.1, 0.1, device)
    jittered_B, gray_B = (_uniform(count, 0, 1, device) < share for share in (0.8, 0.2))
    sigma_B = _uniform(count, 0.1, 2.0, device) * size / 224
    sigma_B = sigma_B * (_uniform(count, 0, 1, device) < 0.5)
    return Light(order, factors_4B, jittered_B, gray_B, sigma_B, torch.zeros_like(gray_B))


def _cut(count: int, cells: int, size: int, device: torch.device, turn: bool) -> Tensor:
    """Draw consecutive indices_BS along an axis, forwards or, if `turn`, backwards."""
    start_B = own_rows(torch.randint(cells - size + 1, (count * ranks(),), device=device))
    step_S = torch.arange(size, device=device)
    if not turn:
        return start_B[:, None] + step_S
    backwards_B1 = _uniform(count, 0, 1, device)[:, None] < 0.5
    return start_B[:, None] + torch.where(backwards_B1, size - 1 - step_S, step_S)


def _uniform(count: int, low: float, high: float, device: torch.device) -> Tensor:
    return low + (high - low) * own_rows(torch.rand(count * ranks(), device=device))
