"""Logits from maps of several strides: each is brought to one width and to the finest stride, and all are added.

Kirillov et al., 2019, "Panoptic Feature Pyramid Networks", arXiv:1901.02446, without its top-down path.

Shape letters: B batch, D features, K classes, H rows, W columns, h and w rows and columns of a map.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from rsfm.encoder import Encoder, FeatureMap

FINEST = 4
"""Maps of smaller cells are left out, unless there is no other."""


class LevelSum(nn.Module):
    """Reads all maps of an encoder.

    Attributes:
        margin: how many pixels around a pixel can change its logits; None when the whole tile does.
    """

    def __init__(self, encoder: Encoder, width: int, classes: int) -> None:
        super().__init__()
        shapes = _shapes(encoder)
        self.levels = [at for at, (_, stride) in enumerate(shapes) if stride >= FINEST] or [len(shapes) - 1]
        finest = shapes[self.levels[0]][1]
        self.laterals = nn.ModuleList(
            nn.Sequential(nn.Conv2d(shapes[at][0], width, 1, bias=False), nn.BatchNorm2d(width)) for at in self.levels
        )
        self.join = nn.Sequential(
            nn.ReLU(), nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.to_logits = nn.Conv2d(width, classes, 1)
        # interpolation reaches one more cell, of the coarsest map and of the sum; the convolution another one
        self.margin = None if encoder.margin is None else encoder.margin + encoder.stride + 2 * finest

    def forward(self, maps: list[FeatureMap], height: int, width: int) -> Tensor:
        """Return logits_BKHW of so many rows and columns of pixels."""
        levels = [maps[at].features_BDhw for at in self.levels]
        sum_BDhw = self.laterals[0](levels[0])
        for level_BDhw, lateral in zip(levels[1:], self.laterals[1:], strict=True):
            own_BDhw = lateral(level_BDhw)
            sum_BDhw = sum_BDhw + _resized(own_BDhw, sum_BDhw.shape[2], sum_BDhw.shape[3])
        return _resized(self.to_logits(self.join(sum_BDhw)), height, width)


def _resized(map_BDhw: Tensor, height: int, width: int) -> Tensor:
    if map_BDhw.shape[2:] == (height, width):
        return map_BDhw
    return functional.interpolate(map_BDhw, (height, width), mode="bilinear", align_corners=False)


@torch.no_grad()
def _shapes(encoder: Encoder) -> list[tuple[int, int]]:
    """Return features and stride of each map of an encoder."""
    training, side = encoder.training, 2 * encoder.stride
    maps = encoder.eval().feature_maps(torch.zeros(1, encoder.bands, side, side))
    encoder.train(training)
    return [(each.features_BDhw.shape[1], each.stride) for each in maps]
