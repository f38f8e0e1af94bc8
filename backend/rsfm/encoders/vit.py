"""Vision transformer with fixed positions, for windows of any size that is a multiple of its patch.

Dosovitskiy et al., 2021, "An Image is Worth 16x16 Words", arXiv:2010.11929; positions, class token and names of
weights as He et al., 2022, arXiv:2111.06377.

Shape letters: B batch, C bands, H rows, W columns, L patches, K patches given, T tokens, D width.
"""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from rsfm.blocks.patch_embed import PatchEmbed
from rsfm.blocks.positions import grid_positions, sincos_2d
from rsfm.blocks.transformer import (
    Pooling,
    TokenEncoder,
    TransformerConfig,
    at_quarters,
    initialise,
    lay_out,
    transformer_blocks,
)
from rsfm.encoder import FeatureMap


class ViTConfig(TransformerConfig):
    """Vision transformer, for masked autoencoders: made for a GPU, or for hours on a CPU."""

    name: Literal["vit"] = "vit"
    pooling: Pooling = "mean"


class ViT(TokenEncoder):
    name = "vit"
    Config = ViTConfig

    def __init__(self, config: Any, bands: int) -> None:
        super().__init__(config, bands)
        width, depth, heads = config.shape()
        self.pooling = config.pooling
        self.patch_embed = PatchEmbed(None, config.patch_size, bands, width)
        self.cls_token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        positions_1LD = sincos_2d(width, self.grid, self.grid, class_token=True)[None].float()
        self.pos_embed = nn.Parameter(positions_1LD, requires_grad=False)
        self.blocks = transformer_blocks(width, depth, heads)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.apply(initialise)
        nn.init.xavier_uniform_(self.patch_embed.proj.weight.flatten(1))

    def embed(self, pixels_BCHW: Tensor) -> Tensor:
        rows, columns = self.patches(pixels_BCHW)
        tokens_BLD: Tensor = self.patch_embed(pixels_BCHW)
        return tokens_BLD + grid_positions(self.pos_embed, self.grid, rows, columns)[:, 1:]

    def encode(self, tokens_BKD: Tensor) -> Tensor:
        encoded_BKD: Tensor = self.norm(self.blocks(self._with_class(tokens_BKD)))
        return encoded_BKD

    def feature_maps(self, pixels_BCHW: Tensor) -> list[FeatureMap]:
        """Return features after each quarter of the blocks, normalised without weights, and the last with the norm."""
        tokens_BTD = self._with_class(self.embed(pixels_BCHW))
        found = at_quarters(self.blocks, self.norm, tokens_BTD)
        size = self.patches(pixels_BCHW)
        return [FeatureMap(lay_out(encoded_BTD[:, 1:], *size), self.stride) for encoded_BTD in found]

    def embedding(self, pixels_BCHW: Tensor) -> Tensor:
        """Return the normalised class token, or the norm of the patches' mean (not the mean of their norms)."""
        encoded_BKD = self.blocks(self._with_class(self.embed(pixels_BCHW)))
        pooled_BD = encoded_BKD[:, 0] if self.pooling == "class" else encoded_BKD[:, 1:].mean(1)
        embedding_BD: Tensor = self.norm(pooled_BD)
        return embedding_BD

    def _with_class(self, tokens_BKD: Tensor) -> Tensor:
        class_B1D = (self.cls_token + self.pos_embed[:, :1]).expand(tokens_BKD.shape[0], -1, -1)
        return torch.cat([class_B1D, tokens_BKD], dim=1)
