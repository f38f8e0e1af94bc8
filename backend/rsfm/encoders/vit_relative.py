"""Vision transformer with relative positions, as a member of the form."""

from typing import Literal

from rsfm.blocks.relative_vit import RelativeViT, RelativeViTConfig


class ViTRelativeConfig(RelativeViTConfig, title="ViT, relative positions"):
    """Vision transformer with relative positions, for data2vec: made for a GPU, or for hours on a CPU."""

    name: Literal["vit_relative"] = "vit_relative"


class ViTRelative(RelativeViT):
    name = "vit_relative"
    Config = ViTRelativeConfig
