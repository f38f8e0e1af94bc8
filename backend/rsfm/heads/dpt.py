"""DPT: maps of a transformer's early and late blocks, fused from coarse to fine.

Ranftl et al., 2021, "Vision Transformers for Dense Prediction", arXiv:2103.13413, with batch norm as for its semantic
segmentation and without the class token. Unlike there, a map is enlarged between the centres of its cells, as
everywhere here, so that the tiles of a raster agree; and any patch size will do, not 16 alone.

Shape letters: B batch, D features, K classes, H rows, W columns, h and w rows and columns of a map.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from rsfm.blocks.conv_norm import BatchNorm, ConvNorm, resize
from rsfm.blocks.levels import choose_maps
from rsfm.encoder import FeatureMap, MapShape
from rsfm.head import Decoder, HeadConfig
from rsfm.params import Channels

LEVELS = 4
WIDER = (1, 2, 4, 4)
"""How many times as wide as the fusion each level is while it is brought to its stride."""
FINEST = 4
"""Pixels of a cell of the finest level, or the nearest to it that the patch allows by doubling."""
DROPPED = 0.1
"""Share of the features that are left out at random in learning."""


class DPTConfig(HeadConfig):
    """DPT: fuses early and late blocks of a transformer; finer outlines than the linear head, quicker than UPerNet."""

    name: Literal["dpt"] = "dpt"
    channels: Channels = Field(64, ge=8, le=2048, multiple_of=8, description="Features at each level; published: 256.")


class DPT(Decoder):
    name = "dpt"
    Config = DPTConfig

    def __init__(self, config: Any, shapes: Sequence[MapShape], classes: int) -> None:
        super().__init__(config, shapes, classes)
        self.classes, channels = classes, config.channels
        strides = level_strides(shapes[0].stride)
        self.multiple = math.lcm(shapes[-1].stride, round(strides[-1]))
        self.sources = choose_maps(shapes, strides)
        self.reassemble = nn.ModuleList(
            Reassemble(shapes[source], times * channels, channels, stride)
            for source, times, stride in zip(self.sources, WIDER, strides, strict=True)
        )
        self.fusion = nn.ModuleList(Fusion(channels, joins=level + 1 < LEVELS) for level in range(LEVELS))
        self.head = nn.Sequential(ConvNorm(channels, channels, 3), nn.Dropout(DROPPED), nn.Conv2d(channels, classes, 1))

    def forward(self, maps: list[FeatureMap], height: int, width: int) -> Tensor:
        levels = [
            level(maps[source].features_BDhw) for source, level in zip(self.sources, self.reassemble, strict=True)
        ]
        fused_BDhw = self.fusion[-1](levels[-1], None)
        for level_BDhw, fusion in zip(levels[-2::-1], list(self.fusion)[-2::-1], strict=True):
            fused_BDhw = fusion(resize(fused_BDhw, level_BDhw), level_BDhw)
        return functional.interpolate(self.head(fused_BDhw), size=(height, width), mode="bilinear", align_corners=False)


class Reassemble(nn.Module):
    """Brings a map to a stride that is a power of two away, wider than the fusion, and then to its width."""

    def __init__(self, shape: MapShape, inner: int, channels: int, stride: float) -> None:
        super().__init__()
        doublings = round(math.log2(shape.stride / stride))
        self.project = nn.Conv2d(shape.features, inner, 1)
        self.resample: nn.Module = nn.Identity()
        if doublings < 0:
            self.resample = nn.Sequential(*(nn.Conv2d(inner, inner, 3, 2, padding=1) for _ in range(-doublings)))
        elif doublings > 0:
            self.resample = nn.ConvTranspose2d(inner, inner, 2**doublings, stride=2**doublings)
        self.mix = nn.Conv2d(inner, channels, 3, padding=1, bias=False)

    def forward(self, features_BDhw: Tensor) -> Tensor:
        level_BDhw: Tensor = self.mix(self.resample(self.project(features_BDhw)))
        return level_BDhw


class Fusion(nn.Module):
    """Adds a level to what came from the coarser ones, and doubles the size."""

    def __init__(self, channels: int, joins: bool) -> None:
        super().__init__()
        self.before = Residual(channels) if joins else None
        self.after = Residual(channels)
        self.project = nn.Conv2d(channels, channels, 1)

    def forward(self, fused_BDhw: Tensor, level_BDhw: Tensor | None) -> Tensor:
        if self.before is not None and level_BDhw is not None:
            fused_BDhw = fused_BDhw + self.before(level_BDhw)
        larger_BDhw = functional.interpolate(
            self.after(fused_BDhw), scale_factor=2, mode="bilinear", align_corners=False
        )
        projected_BDhw: Tensor = self.project(larger_BDhw)
        return projected_BDhw


class Residual(nn.Module):
    """Two convolutions of 3 x 3, each after ReLU and before batch norm, and the way around them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            BatchNorm(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            BatchNorm(channels),
        )

    def forward(self, features_BDhw: Tensor) -> Tensor:
        sum_BDhw: Tensor = features_BDhw + self.branch(features_BDhw)
        return sum_BDhw


def level_strides(stride: int) -> list[float]:
    """Return the strides of the levels; the finest is near 4 pixels and a power of two away from the first map's."""
    finest = stride / 2 ** round(math.log2(stride / FINEST))
    return [finest * 2**level for level in range(LEVELS)]
