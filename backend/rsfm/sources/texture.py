"""Pixels with the mean and the deviation of their 3 x 3 and 7 x 7 neighbourhoods: texture without learning."""

import torch
from torch import Tensor
from torch.nn import functional

from rsfm.source import Source

SIDES = (3, 7)


class Texture(Source):
    name = "texture"

    def __init__(self, bands: int) -> None:
        super().__init__()
        self.width, self.margin, self.multiple = bands * (1 + 2 * len(SIDES)), max(SIDES) // 2, 1

    def features(self, pixels_BCHW: Tensor) -> Tensor:
        features = [pixels_BCHW]
        for side in SIDES:
            mean_BCHW = _mean(pixels_BCHW, side)
            variance_BCHW = _mean((pixels_BCHW).square(), side) - mean_BCHW.square()
            features += [mean_BCHW, variance_BCHW.clamp(min=0).sqrt()]
        return torch.cat(features, dim=1)


def _mean(pixels_BCHW: Tensor, side: int) -> Tensor:
    padded = functional.pad(pixels_BCHW, [side // 2] * 4, mode="reflect")
    return functional.avg_pool2d(padded, side, stride=1)
