"""Vision transformer with learned positions, as a member of the form."""

from typing import Literal

from rsfm.blocks.learned_vit import LearnedViT, LearnedViTConfig


class ViTLearnedConfig(LearnedViTConfig, title="ViT, learned positions"):
    """Vision transformer with learned positions, for DINO, SatDINO and PerA: made for a GPU, or for hours on a CPU."""

    name: Literal["vit_learned"] = "vit_learned"


class ViTLearned(LearnedViT):
    name = "vit_learned"
    Config = ViTLearnedConfig
