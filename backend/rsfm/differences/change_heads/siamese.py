"""The difference of both dates' maps, level by level, through a decoder of maps.

The decoder is any module that turns feature maps and the size of the pixels into logits.
Shape letters: B batch, K classes, H rows, W columns.
"""

from typing import Any, Literal

from pydantic import Field
from torch import Tensor

from rsfm.blocks.level_sum import LevelSum
from rsfm.differences.change_head import ChangeHead, ChangeHeadConfig
from rsfm.encoder import Encoder, FeatureMap
from rsfm.params import Channels


class SiameseConfig(ChangeHeadConfig):
    """Compares the dates at each level of the encoder: fast, the same for both orders of the dates."""

    name: Literal["siamese"] = "siamese"
    width: Channels = Field(64, ge=8, le=1024, multiple_of=8, description="Features of a level in the decoder.")


class Siamese(ChangeHead):
    name = "siamese"
    Config = SiameseConfig
    is_symmetric = True

    def __init__(self, config: Any, encoder: Encoder, classes: int) -> None:
        super().__init__(config, encoder, classes)
        self.decoder = LevelSum(encoder, config.width, classes)
        self.margin, self.multiple = self.decoder.margin, encoder.stride

    def forward(self, before: list[FeatureMap], after: list[FeatureMap], height: int, width: int) -> Tensor:
        apart = [
            FeatureMap((one.features_BDhw - other.features_BDhw).abs(), one.stride)
            for one, other in zip(before, after, strict=True)
        ]
        logits_BKHW: Tensor = self.decoder(apart, height, width)
        return logits_BKHW
