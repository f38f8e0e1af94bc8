"""Vision transformer with learned positions, as DINO, SatDINO and PerA train it.

Dosovitskiy et al., 2021, arXiv:2010.11929; Caron et al., 2021, arXiv:2104.14294; the token of the pixel size: Straka et
al., 2025, "SatDINO".

Shape letters: B batch, C bands, H rows, W columns, L patches, K patches given, T tokens, D width.
"""

from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from rsfm.blocks.patch_embed import PatchEmbed
from rsfm.blocks.positions import scale_positions
from rsfm.blocks.projection import initialise_normal
from rsfm.blocks.transformer import (
    Pooling,
    TokenEncoder,
    TransformerConfig,
    at_quarters,
    lay_out,
    transformer_blocks,
)
from rsfm.encoder import FeatureMap


class LearnedViTConfig(TransformerConfig):
    """Vision transformer with learned positions."""

    size: Literal["tiny", "small", "base", "large", "giant", "free"] = Field(  # type: ignore[assignment]
        "free", description="Published size; free takes width, depth and heads below."
    )
    pooling: Pooling = "class"
    gsd_token: bool = Field(False, description="Add a token that learns the size of a pixel; SatDINO needs it.")


class LearnedViT(TokenEncoder):
    """Tokens are the class token, the patches row by row, and last the token of the pixel size if it has one."""

    def __init__(self, config: Any, bands: int) -> None:
        super().__init__(config, bands)
        width, depth, heads = config.shape()
        self.pooling, self.last_tokens = config.pooling, int(config.gsd_token)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        if config.gsd_token:
            self.gsd_register = nn.Parameter(torch.zeros(1, 1, width))
            nn.init.trunc_normal_(self.gsd_register, std=0.02)
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + self.grid**2 + self.last_tokens, width))
        self.patch_embed = PatchEmbed(None, config.patch_size, bands, width)
        self.blocks = transformer_blocks(width, depth, heads)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.blocks.apply(initialise_normal)
        for table in (self.cls_token, self.pos_embed):
            nn.init.trunc_normal_(table, std=0.02)

    def embed(self, pixels_BCHW: Tensor) -> Tensor:
        tokens_BLD: Tensor = self.patch_embed(pixels_BCHW)
        return tokens_BLD + self.positions(pixels_BCHW)

    def positions(self, pixels_BCHW: Tensor) -> Tensor:
        """Return positions_1LD of the patches of windows of this size."""
        height, width = pixels_BCHW.shape[2:]
        positions_1TD = scale_positions(self.pos_embed, self.patches(pixels_BCHW), height == width, self.last_tokens)
        return positions_1TD[:, 1 : positions_1TD.shape[1] - self.last_tokens]

    def sequence(self, tokens_BKD: Tensor) -> Tensor:
        """Put the class token before, and the token of the pixel size behind, tokens that have their positions."""
        class_11D = self.cls_token + self.pos_embed[:, :1]
        parts = [class_11D.expand(tokens_BKD.shape[0], -1, -1), tokens_BKD]
        if self.last_tokens:
            parts.append((self.gsd_register + self.pos_embed[:, -1:]).expand(tokens_BKD.shape[0], -1, -1))
        return torch.cat(parts, dim=1)

    def encode_all(self, tokens_BKD: Tensor) -> Tensor:
        """Return encoded_BTD: the class token, those given, and the token of the pixel size; normalised."""
        encoded_BTD: Tensor = self.norm(self.blocks(self.sequence(tokens_BKD)))
        return encoded_BTD

    def encode(self, tokens_BKD: Tensor) -> Tensor:
        return self.encode_all(tokens_BKD)[:, : 1 + tokens_BKD.shape[1]]

    def feature_maps(self, pixels_BCHW: Tensor) -> list[FeatureMap]:
        """Return features after each quarter of the blocks, normalised without weights, and the last with the norm."""
        rows, columns = self.patches(pixels_BCHW)
        found = at_quarters(self.blocks, self.norm, self.sequence(self.embed(pixels_BCHW)))
        return [
            FeatureMap(lay_out(encoded_BTD[:, 1 : 1 + rows * columns], rows, columns), self.stride)
            for encoded_BTD in found
        ]

    def embedding(self, pixels_BCHW: Tensor) -> Tensor:
        """Return the normalised class token, or the mean of the normalised patches."""
        encoded_BKD = self.encode(self.embed(pixels_BCHW))
        return encoded_BKD[:, 0] if self.pooling == "class" else encoded_BKD[:, 1:].mean(1)

    def with_gsd_token(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Complete weights made without a token of the pixel size, such as DINO's, by this encoder's own."""
        positions_1TD = weights["pos_embed"]
        if not self.last_tokens or "gsd_register" in weights:
            return weights
        positions_1TD = torch.cat([positions_1TD, self.pos_embed[:, -1:].detach()], dim=1)
        return {**weights, "pos_embed": positions_1TD, "gsd_register": self.gsd_register.detach()}
