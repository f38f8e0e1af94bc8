"""UPerNet: what a whole window holds, at four scales, joined with the detail of finer maps.

Xiao et al., 2018, "Unified Perceptual Parsing for Scene Understanding", arXiv:1807.10221; names of weights and layers
as in mmsegmentation, whose checkpoints fit. As published: 512 channels, and 256 of the auxiliary head, which is also
how PerA's "hidden channels 512, output channels 256" is read here; `fusion_channels` 256 is the other reading.

Shape letters: B batch, D features, K classes, H rows, W columns, h and w rows and columns of a map.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from rsfm.blocks.conv_norm import ConvNorm, resize
from rsfm.blocks.levels import Levels
from rsfm.encoder import FeatureMap, MapShape
from rsfm.head import Answer, Decoder, HeadConfig
from rsfm.params import Channels, Fraction

STRIDES = (4, 8, 16, 32)
SCALES = (1, 2, 3, 6)
"""Sides, in cells, that the coarsest map is pooled to."""
DROPPED = 0.1
"""Share of the features that are left out at random in learning."""


class UPerNetConfig(HeadConfig):
    """UPerNet: sees detail and surroundings together. For a hundred polygons or more, and minutes to learn."""

    name: Literal["upernet"] = "upernet"
    channels: Channels = Field(128, ge=8, le=2048, multiple_of=8, description="Features at each scale.")
    fusion_channels: Channels = Field(
        0, ge=0, le=2048, description="Features that the joined scales are brought to; 0 is as many as at each scale."
    )
    auxiliary_channels: Channels = Field(
        64, ge=0, le=2048, description="Features of a second, smaller head that only helps to learn; 0 makes none."
    )
    auxiliary_weight: Fraction = Field(0.4, ge=0, le=1, description="How much the second head counts in learning.")


class UPerNet(Decoder):
    name = "upernet"
    Config = UPerNetConfig

    def __init__(self, config: Any, shapes: Sequence[MapShape], classes: int) -> None:
        super().__init__(config, shapes, classes)
        self.config, self.classes = config, classes
        self.multiple = STRIDES[-1]
        self.levels = Levels(shapes, STRIDES, config.channels)
        fusion = config.fusion_channels or config.channels
        self.decode_head = UPerHead(self.levels.widths, config.channels, fusion, classes)
        self.auxiliary_head = None
        if config.auxiliary_channels:
            self.auxiliary_head = AuxiliaryHead(self.levels.widths[-2], config.auxiliary_channels, classes)

    def forward(self, maps: list[FeatureMap], height: int, width: int) -> Tensor:
        return _enlarge(self.decode_head(self.levels(maps, height, width)), height, width)

    def answers(self, maps: list[FeatureMap], height: int, width: int) -> list[Answer]:
        levels = self.levels(maps, height, width)
        found = [Answer(_enlarge(self.decode_head(levels), height, width), 1.0)]
        if self.auxiliary_head is not None:
            second_BKHW = _enlarge(self.auxiliary_head(levels[-2]), height, width)
            found.append(Answer(second_BKHW, self.config.auxiliary_weight))
        return found


class UPerHead(nn.Module):
    """From maps, each half as fine as the one before, to logits of the first one's size."""

    def __init__(
        self, widths: Sequence[int], channels: int, fusion: int, classes: int, scales: Sequence[int] = SCALES
    ) -> None:
        super().__init__()
        self.psp_modules = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(scale), ConvNorm(widths[-1], channels, 1)) for scale in scales
        )
        self.bottleneck = ConvNorm(widths[-1] + len(scales) * channels, channels, 3)
        self.lateral_convs = nn.ModuleList(ConvNorm(width, channels, 1) for width in widths[:-1])
        self.fpn_convs = nn.ModuleList(ConvNorm(channels, channels, 3) for _ in widths[:-1])
        self.fpn_bottleneck = ConvNorm(len(widths) * channels, fusion, 3)
        self.dropout = nn.Dropout2d(DROPPED)
        self.conv_seg = nn.Conv2d(fusion, classes, 1)

    def forward(self, levels: list[Tensor]) -> Tensor:
        """Return logits_BKhw."""
        logits_BKhw: Tensor = self.conv_seg(self.dropout(self.join(levels)))
        return logits_BKhw

    def pool(self, coarsest_BDhw: Tensor) -> Tensor:
        """Return the coarsest map with what its surroundings hold at every scale."""
        pooled = [resize(pool(coarsest_BDhw), coarsest_BDhw) for pool in self.psp_modules]
        seen_BDhw: Tensor = self.bottleneck(torch.cat([coarsest_BDhw, *pooled], dim=1))
        return seen_BDhw

    def join(self, levels: list[Tensor]) -> Tensor:
        """Return features_BDhw of the finest map's size, from all."""
        joined = [conv(level) for conv, level in zip(self.lateral_convs, levels[:-1], strict=True)]
        joined.append(self.pool(levels[-1]))
        for at in range(len(joined) - 1, 0, -1):
            joined[at - 1] = joined[at - 1] + resize(joined[at], joined[at - 1])
        smooth = [conv(level) for conv, level in zip(self.fpn_convs, joined[:-1], strict=True)]
        same_size = [resize(level, smooth[0]) for level in (*smooth, joined[-1])]
        features_BDhw: Tensor = self.fpn_bottleneck(torch.cat(same_size, dim=1))
        return features_BDhw


class AuxiliaryHead(nn.Module):
    """Convolutions of 3 x 3 and logits from one map, to give early blocks a gradient of their own."""

    def __init__(self, width: int, channels: int, classes: int, convolutions: int = 1) -> None:
        super().__init__()
        widths = [width] + [channels] * convolutions
        self.convs = nn.Sequential(*(ConvNorm(*pair, 3) for pair in pairwise(widths)))
        self.dropout = nn.Dropout2d(DROPPED)
        self.conv_seg = nn.Conv2d(channels, classes, 1)

    def forward(self, features_BDhw: Tensor) -> Tensor:
        """Return logits_BKhw."""
        logits_BKhw: Tensor = self.conv_seg(self.dropout(self.convs(features_BDhw)))
        return logits_BKhw


def _enlarge(logits_BKhw: Tensor, height: int, width: int) -> Tensor:
    return functional.interpolate(logits_BKhw, size=(height, width), mode="bilinear", align_corners=False)
