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

    Chroma is used in place of saturation, so values need not lie between 0 and 1. On a circle of 6 a band is highest up
    to 1 away from its own hue and lowest from 2 on. How far a pixel's hue is from that of a band follows from what each
    band lacks of the highest, in units of chroma: 2 plus that of this band less those of the others. All is kept times
    the chroma, so that gray is no exception.
    """
    red, green, blue = pixels_B3HW[:, :1], pixels_B3HW[:, 1:2], pixels_B3HW[:, 2:]
    high_B1HW = torch.maximum(red, green).maximum(blue)
    low_B1HW = torch.minimum(red, green).minimum(blue)
    chroma_B1HW = high_B1HW - low_B1HW
    turned_B1HW = chroma_B1HW * (6 * (turn_B - turn_B.round()))[:, None, None, None]
    sum_B1HW = (red + green).add_(blue)
    farthest_B1HW = sum_B1HW.add_(chroma_B1HW, alpha=2).sub_(high_B1HW)
    side_B3HW = torch.cat([green - blue, blue - red, red - green], 1)
    angle_B3HW = torch.sub(farthest_B1HW, pixels_B3HW, alpha=2)
    _take_sign_(angle_B3HW, side_B3HW)
    angle_B3HW.add_(turned_B1HW).abs_().sub_(chroma_B1HW, alpha=3).abs_()
    torch.add(angle_B3HW, high_B1HW.sub(chroma_B1HW, alpha=2), out=pixels_B3HW)
    torch.minimum(pixels_B3HW, high_B1HW, out=pixels_B3HW)
    return torch.maximum(pixels_B3HW, low_B1HW, out=pixels_B3HW)


def _take_sign_(positive: Tensor, sign: Tensor) -> None:
    """Do what `copysign_` does to floats of 32 bits, twenty times as fast on a processor; the signs are used up."""
    positive.view(torch.int32).bitwise_or_(sign.view(torch.int32).bitwise_and_(-(2**31)))
