"""BIT: two dates are told in a few tokens, which every pixel then reads.

Shape letters: B batch, K classes, H rows, W columns.
"""

import math
from typing import Annotated, Any, Literal

from pydantic import Field
from torch import Tensor

from rsfm.blocks.bit import STRIDE, Bit, BitShape
from rsfm.differences.change_head import ChangeHead, ChangeHeadConfig
from rsfm.encoder import Encoder, FeatureMap
from rsfm.params import Channels, Hint

FINEST, STAGES = 8, 3
"""A ResNet keeps cells of 8 pixels from there on, and its fourth stage is left out."""


class BitConfig(ChangeHeadConfig):
    """Bitemporal image transformer: both dates meet in a few tokens. Small, and good with few polygons."""

    name: Literal["bit"] = "bit"
    features: Annotated[Literal["published", "last"], Hint(advanced=True)] = Field(
        "published", title="Stage of a ResNet", description="Read the third stage, as published, or the last one."
    )
    tokens: Channels = Field(4, ge=1, le=64, description="Tokens that tell a date.")
    width: Channels = Field(32, ge=8, le=512, multiple_of=8, description="Features of a token and of a pixel.")
    decoder_depth: Channels = Field(8, ge=1, le=16, description="Blocks in which pixels look at the tokens.")
    decoder_head_width: Channels = Field(8, ge=4, le=256, description="Features of each of 8 heads in these blocks.")


class BitHead(ChangeHead):
    name = "bit"
    Config = BitConfig
    margin = None
    is_symmetric = False

    def __init__(self, config: Any, encoder: Encoder, classes: int) -> None:
        super().__init__(config, encoder, classes)
        encoder.keep_fine(FINEST, STAGES if config.features == "published" else STAGES + 1)
        self.multiple = math.lcm(encoder.stride, STRIDE)
        shape = BitShape(
            width=config.width,
            tokens=config.tokens,
            decoder_depth=config.decoder_depth,
            decoder_head_width=config.decoder_head_width,
            hidden=2 * config.width,
        )
        self.bit = Bit(encoder.width, classes, shape)

    def forward(self, before: list[FeatureMap], after: list[FeatureMap], height: int, width: int) -> Tensor:
        logits_BKHW: Tensor = self.bit(before[-1], after[-1], height, width)
        return logits_BKHW
