"""Random resized crops whose rectangles are known, so that two views can share one and a pixel's new size is told.

Szegedy et al., 2015, arXiv:1409.4842, as torchvision draws them: whole pixels, ten attempts, then the middle.

Shape letters: B batch, C bands, H rows, W columns, S side of a view, A attempts.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from rsfm.blocks.ranks import own_rows, ranks
from rsfm.blocks.resampling import Kernel, Rectangles, resize_valid
from rsfm.blocks.view import View, make_in_pieces

ATTEMPTS = 10
ASPECT = (3 / 4, 4 / 3)


class Limits(NamedTuple):
    """The lowest and the highest value of each band of each window."""

    low_BC11: Tensor
    high_BC11: Tensor

    @classmethod
    def find(cls, pixels_BCHW: Tensor) -> "Limits":
        return cls(pixels_BCHW.amin((2, 3), keepdim=True), pixels_BCHW.amax((2, 3), keepdim=True))

    def of(self, piece: slice) -> "Limits":
        """Return the limits of some of the windows."""
        return Limits(self.low_BC11[piece], self.high_BC11[piece])


def draw_crop(
    count: int,
    height: int,
    width: int,
    area: tuple[float, float],
    device: torch.device,
    mirror: float = 0.5,
    turn: float = 0.0,
) -> Rectangles:
    """Draw rectangles with a share of the area between two bounds and an aspect of 3/4 to 4/3.

    The middle of a window, at an aspect as near as it has, stands in where no attempt fits: this one may be larger.

    Args:
        mirror, turn: chance to be mirrored left to right, and upside down.
    """
    shape = (count * ranks(), ATTEMPTS)
    area_BA = height * width * (area[0] + (area[1] - area[0]) * own_rows(torch.rand(shape, device=device)))
    low, high = (math.log(aspect) for aspect in ASPECT)
    aspect_BA = torch.exp(low + (high - low) * own_rows(torch.rand(shape, device=device)))
    wide_BA, high_BA = (area_BA * aspect_BA).sqrt().round(), (area_BA / aspect_BA).sqrt().round()
    fits_BA = (wide_BA >= 1) & (high_BA >= 1) & (wide_BA <= width) & (high_BA <= height)
    first_B1 = fits_BA.float().argmax(1, keepdim=True)
    found_B = fits_BA.any(1)
    middle_high, middle_wide = _middle(height, width)
    high_B = torch.where(found_B, high_BA.gather(1, first_B1)[:, 0], middle_high)
    wide_B = torch.where(found_B, wide_BA.gather(1, first_B1)[:, 0], middle_wide)
    place_2B = own_rows(torch.rand(2, count * ranks(), device=device), 1)
    top_B = torch.where(found_B, (place_2B[0] * (height - high_B + 1)).floor(), (height - middle_high) // 2)
    left_B = torch.where(found_B, (place_2B[1] * (width - wide_B + 1)).floor(), (width - middle_wide) // 2)
    chance_2B = own_rows(torch.rand(2, count * ranks(), device=device), 1)
    return Rectangles(top_B, left_B, high_B, wide_B, chance_2B[0] < mirror, chance_2B[1] < turn)


def cut(
    pixels_BCHW: Tensor,
    valid_BHW: Tensor,
    crop: Rectangles,
    size: int,
    kernel: Kernel,
    limits: Limits | None = None,
) -> View:
    """Cut rectangles and resize them to `size`; no value leaves the range that a window's band has.

    Args:
        limits: of the windows, where they are known: they are looked for otherwise.
    """
    known = limits or (Limits.find(pixels_BCHW) if kernel == "bicubic" else None)

    def make(piece: slice) -> View:
        pixels_BCSS, valid_BSS = resize_valid(
            pixels_BCHW[piece], valid_BHW[piece], crop.of(piece), (size, size), kernel
        )
        if kernel == "bicubic" and known is not None:  # the other kernel has no negative weights
            low_BC11, high_BC11 = known.of(piece)
            torch.maximum(pixels_BCSS, low_BC11, out=pixels_BCSS)
            torch.minimum(pixels_BCSS, high_BC11, out=pixels_BCSS)
        return View(pixels_BCSS, valid_BSS).cleared()

    return make_in_pieces(make, pixels_BCHW, (size, size))


def pixel_size(gsd_B: Tensor, crop: Rectangles, size: int) -> Tensor:
    """Return metres per pixel of a crop resized to `size`: the source's over the mean factor of rows and columns."""
    return gsd_B / ((size / crop.height_B + size / crop.width_B) / 2)


def _middle(height: int, width: int) -> tuple[int, int]:
    if width / height < ASPECT[0]:
        return round(width / ASPECT[0]), width
    if width / height > ASPECT[1]:
        return height, round(height * ASPECT[1])
    return height, width
