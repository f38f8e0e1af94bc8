"""Photometric changes of float windows with any number of bands; each window has its own strength.

A change whose name ends in an underscore is made in place and returns the same tensor.

Shape letters: B batch, C bands, H rows, W columns.
"""

import torch
from torch import Tensor

from rsfm.blocks.validity import nothing_missing

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in ITU-R 601."""


def gray(pixels_BCHW: Tensor) -> Tensor:
    """Return gray_B1HW: ITU-R 601 luma of three bands, the mean of any other number."""
    if pixels_BCHW.shape[1] != len(LUMA):
        return pixels_BCHW.mean(1, keepdim=True)
    red, green, blue = pixels_BCHW[:, :1], pixels_BCHW[:, 1:2], pixels_BCHW[:, 2:]
    return (red * LUMA[0]).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2])


def change_brightness_(pixels_BCHW: Tensor, factor_B: Tensor) -> Tensor:
    """Multiply each window by its factor."""
    return pixels_BCHW.mul_(factor_B[:, None, None, None])


def change_contrast_(pixels_BCHW: Tensor, valid_BHW: Tensor, factor_B: Tensor) -> Tensor:
    """Stretch each window about its mean: of the luma for three bands, of each band otherwise."""
    factor_B111 = factor_B[:, None, None, None]
    mean_BC11 = mean_of_valid(pixels_BCHW, valid_BHW)
    if pixels_BCHW.shape[1] == len(LUMA):
        mean_BC11 = gray(mean_BC11)
    return pixels_BCHW.mul_(factor_B111).add_(mean_BC11 * (1 - factor_B111))


def mean_of_valid(pixels_BCHW: Tensor, valid_BHW: Tensor) -> Tensor:
    """Return the mean of each band over valid pixels, mean_BC11; 0 where there are none."""
    if nothing_missing(valid_BHW):
        return pixels_BCHW.mean((2, 3), keepdim=True)
    weight_B1HW = valid_BHW[:, None].to(pixels_BCHW.dtype)
    count_B111 = weight_B1HW.sum((2, 3), keepdim=True).clamp(min=1)
    return (pixels_BCHW * weight_B1HW).sum((2, 3), keepdim=True) / count_B111


def change_saturation_(pixels_B3HW: Tensor, factor_B: Tensor) -> Tensor:
    """Move red, green and blue away from their luma."""
    return torch.lerp(gray(pixels_B3HW), pixels_B3HW, factor_B[:, None, None, None], out=pixels_B3HW)


def shift_hue_(pixels_B3HW: Tensor, turn_B: Tensor) -> Tensor:
    """Turn the hue of red, green and blue by a share of the colour circle, keeping value and chroma (HSV).

    Chroma is used in place of saturation, so values need not lie between 0 and 1. Thirds of the circle exchange the
    bands. What is left is at most a sixth: it moves the middle band towards the highest or the lowest, and where it
    gets there, the band that was there goes on. Taken for itself, each band follows a line, between lowest and highest:
    twice its value less that of the middle band, and the turn of its side. A band's side is the sign of the difference
    of the others.
    """
    thirds_B = (3 * turn_B).round()
    if turn_B.device.type != "cpu" or bool(thirds_B.any()):
        pixels_B3HW.copy_(_exchanged(pixels_B3HW, thirds_B))
    red, green, blue = pixels_B3HW[:, :1], pixels_B3HW[:, 1:2], pixels_B3HW[:, 2:]
    high_B1HW = torch.maximum(red, green).maximum(blue)
    low_B1HW = torch.minimum(red, green).minimum(blue)
    minus_middle_B1HW = (high_B1HW + low_B1HW).sub_(red).sub_(green).sub_(blue)
    step_B1HW = (high_B1HW - low_B1HW).mul_(6 * (turn_B - thirds_B / 3)[:, None, None, None])
    moved_B3HW = torch.empty_like(pixels_B3HW)
    for band, (first, second) in enumerate(((green, blue), (blue, red), (red, green))):
        torch.sub(first, second, out=moved_B3HW[:, band : band + 1])
    moved_B3HW.sign_().mul_(step_B1HW)
    torch.add(minus_middle_B1HW, pixels_B3HW, alpha=2, out=pixels_B3HW).sub_(moved_B3HW)
    torch.minimum(pixels_B3HW, high_B1HW, out=pixels_B3HW)
    return torch.maximum(pixels_B3HW, low_B1HW, out=pixels_B3HW)


def _exchanged(pixels_B3HW: Tensor, thirds_B: Tensor) -> Tensor:
    """Give each band the values of another, as turning the hue by thirds of the circle does."""
    band_3 = torch.arange(3, device=pixels_B3HW.device)
    from_B3 = (band_3 - thirds_B[:, None]).remainder(3).long()
    return pixels_B3HW.gather(1, from_B3[:, :, None, None].expand_as(pixels_B3HW))
