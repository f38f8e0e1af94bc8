"""Photometric changes of float windows with any number of bands; each window has its own strength.

Shape letters: B batch, C bands, H rows, W columns.
"""

import torch
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in ITU-R 601."""


def gray(pixels_BCHW: Tensor) -> Tensor:
    """Return gray_B1HW: ITU-R 601 luma of three bands, the mean of any other number."""
    if pixels_BCHW.shape[1] != len(LUMA):
        return pixels_BCHW.mean(1, keepdim=True)
    weights_C11 = torch.tensor(LUMA, device=pixels_BCHW.device, dtype=pixels_BCHW.dtype)[:, None, None]
    return (pixels_BCHW * weights_C11).sum(1, keepdim=True)


def change_brightness(pixels_BCHW: Tensor, factor_B: Tensor) -> Tensor:
    """Multiply each window by its factor."""
    return pixels_BCHW * factor_B[:, None, None, None]


def change_contrast(pixels_BCHW: Tensor, valid_BHW: Tensor, factor_B: Tensor) -> Tensor:
    """Stretch each window about its mean: of the luma for three bands, of each band otherwise."""
    source_BCHW = gray(pixels_BCHW) if pixels_BCHW.shape[1] == len(LUMA) else pixels_BCHW
    weight_B1HW = valid_BHW[:, None].to(pixels_BCHW.dtype)
    count_B111 = weight_B1HW.sum((2, 3), keepdim=True).clamp(min=1)
    mean_BC11 = (source_BCHW * weight_B1HW).sum((2, 3), keepdim=True) / count_B111
    return (pixels_BCHW - mean_BC11) * factor_B[:, None, None, None] + mean_BC11


def change_saturation(pixels_B3HW: Tensor, factor_B: Tensor) -> Tensor:
    """Move red, green and blue away from their luma."""
    luma_B1HW = gray(pixels_B3HW)
    return (pixels_B3HW - luma_B1HW) * factor_B[:, None, None, None] + luma_B1HW


def shift_hue(pixels_B3HW: Tensor, turn_B: Tensor) -> Tensor:
    """Turn the hue of red, green and blue by a share of the colour circle, keeping value and chroma (HSV).

    Chroma is used in place of saturation, so values need not lie between 0 and 1.
    """
    red, green, blue = pixels_B3HW.unbind(1)
    value_BHW, chroma_BHW = pixels_B3HW.amax(1), pixels_B3HW.amax(1) - pixels_B3HW.amin(1)
    safe_BHW = torch.where(chroma_BHW > 0, chroma_BHW, 1)
    hue_BHW = torch.where(
        value_BHW == red,
        (green - blue) / safe_BHW,
        torch.where(value_BHW == green, 2 + (blue - red) / safe_BHW, 4 + (red - green) / safe_BHW),
    )
    hue_BHW = hue_BHW + 6 * turn_B[:, None, None]
    return torch.stack([_channel(corner, hue_BHW, value_BHW, chroma_BHW) for corner in (5, 3, 1)], 1)


def _channel(corner: int, hue_BHW: Tensor, value_BHW: Tensor, chroma_BHW: Tensor) -> Tensor:
    angle_BHW = torch.remainder(corner + hue_BHW, 6)
    return value_BHW - chroma_BHW * torch.minimum(angle_BHW, 4 - angle_BHW).clamp(0, 1)
