"""Vision transformer with fixed positions, for windows of any size that is a multiple of its patch.

Dosovitskiy et al., 2021, "An Image is Worth 16x16 Words", arXiv:2010.11929; positions, class token and names of
weights as He et al., 2022, arXiv:2111.06377.

Shape letters: B batch, C bands, H rows, W columns, L patches, K patches given, D width, h and w rows and columns of
patches.
"""

from typing import Any, Literal, Self

import torch
from pydantic import Field, model_validator
from timm.layers.patch_embed import PatchEmbed
from torch import Tensor, nn
from torch.nn import functional

from rsfm.blocks.positions import grid_positions, sincos_2d
from rsfm.blocks.transformer import SIZES, TokenEncoder, initialise, transformer_blocks
from rsfm.encoder import EncoderConfig, FeatureMap
from rsfm.errors import UserError
from rsfm.params import Channels, Pixels


class ViTConfig(EncoderConfig):
    """Vision transformer, for masked autoencoders: made for a GPU, or for hours on a CPU."""

    name: Literal["vit"] = "vit"
    size: Literal["tiny", "small", "base", "large", "free"] = Field(
        "free", description="Published size; free takes width, depth and heads below."
    )
    patch_size: Pixels = Field(4, ge=1, le=64, description="Side of a patch; the window is a multiple of it.")
    window: Pixels = Field(32, ge=4, le=2048, description="Side of the windows whose positions are kept in the file.")
    width: Channels = Field(192, ge=4, le=4096, multiple_of=4, description="Features of a patch.")
    depth: Channels = Field(4, ge=1, le=64, description="Number of blocks.")
    heads: Channels = Field(3, ge=1, le=64, description="Attention heads of a block.")
    pooling: Literal["class", "mean"] = Field(
        "mean", description="A window's vector: the class token, or the mean of its patches."
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"Width ({self.width}) must be a multiple of heads ({self.heads}).")
        if self.window % self.patch_size:
            raise ValueError(f"Window ({self.window} px) must be a multiple of the patch size ({self.patch_size} px).")
        return self


class ViT(TokenEncoder):
    name = "vit"
    Config = ViTConfig

    def __init__(self, config: Any, bands: int) -> None:
        super().__init__(config, bands)
        width, depth, heads = SIZES.get(config.size, (config.width, config.depth, config.heads))
        self.bands, self.width, self.stride, self.margin = bands, width, config.patch_size, None
        self.patch_size, self.window, self.pooling = config.patch_size, config.window, config.pooling
        self.patch_embed = PatchEmbed(None, config.patch_size, bands, width)
        self.cls_token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        positions_1LD = sincos_2d(width, self.grid, self.grid, class_token=True)[None].float()
        self.pos_embed = nn.Parameter(positions_1LD, requires_grad=False)
        self.blocks = transformer_blocks(width, depth, heads)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.apply(initialise)
        nn.init.xavier_uniform_(self.patch_embed.proj.weight.flatten(1))

    def embed(self, pixels_BCHW: Tensor) -> Tensor:
        rows, columns = self._patches(pixels_BCHW)
        tokens_BLD: Tensor = self.patch_embed(pixels_BCHW)
        return tokens_BLD + grid_positions(self.pos_embed, self.grid, rows, columns)[:, 1:]

    def encode(self, tokens_BKD: Tensor) -> Tensor:
        encoded_BKD: Tensor = self.norm(self.blocks(self._with_class(tokens_BKD)))
        return encoded_BKD

    def feature_maps(self, pixels_BCHW: Tensor) -> list[FeatureMap]:
        """Return the middle block's features, normalised without weights, and the last one's with the norm."""
        rows, _ = self._patches(pixels_BCHW)
        tokens_BKD = self._with_class(self.embed(pixels_BCHW))
        half = len(self.blocks) // 2
        middle_BKD = self.blocks[:half](tokens_BKD)
        last_BKD = self.norm(self.blocks[half:](middle_BKD))
        middle_BKD = functional.layer_norm(middle_BKD, (self.width,), eps=1e-6)
        return [
            FeatureMap(encoded_BKD[:, 1:].mT.reshape(len(encoded_BKD), self.width, rows, -1), self.patch_size)
            for encoded_BKD in (middle_BKD, last_BKD)
        ]

    def embedding(self, pixels_BCHW: Tensor) -> Tensor:
        """Return the normalised class token, or the norm of the patches' mean (not the mean of their norms)."""
        encoded_BKD = self.blocks(self._with_class(self.embed(pixels_BCHW)))
        pooled_BD = encoded_BKD[:, 0] if self.pooling == "class" else encoded_BKD[:, 1:].mean(1)
        embedding_BD: Tensor = self.norm(pooled_BD)
        return embedding_BD

    def _with_class(self, tokens_BKD: Tensor) -> Tensor:
        class_B1D = (self.cls_token + self.pos_embed[:, :1]).expand(len(tokens_BKD), -1, -1)
        return torch.cat([class_B1D, tokens_BKD], dim=1)

    def _patches(self, pixels_BCHW: Tensor) -> tuple[int, int]:
        height, width = pixels_BCHW.shape[2:]
        if height % self.patch_size or width % self.patch_size:
            raise UserError(
                f"A window of {height} x {width} px is not a whole number of patches of {self.patch_size} px. "
                f"Choose a multiple of {self.patch_size} under 'Window'.",
                "window",
            )
        return height // self.patch_size, width // self.patch_size
