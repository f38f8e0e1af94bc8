"""Vision transformers whose tokens are patches of slices of a window: of its dates, or of groups of its bands.

Cong et al., 2022, "SatMAE: Pre-training Transformers for Temporal and Multi-Spectral Satellite Imagery",
arXiv:2207.08051.

Shape letters: B batch, T dates, C bands, H rows, W columns, S slices, L patches of a slice, N tokens (S * L, slice by
slice), K tokens given, D width, E features of what tells a slice, h and w rows and columns of patches.
"""

from abc import abstractmethod
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from rsfm.blocks.positions import grid_positions, sincos_2d
from rsfm.blocks.transformer import (
    PatchEncoder,
    Pooling,
    TransformerConfig,
    at_quarters,
    initialise,
    lay_out,
    transformer_blocks,
)
from rsfm.encoder import FeatureMap
from rsfm.errors import UserError
from rsfm.params import Channels, Pixels


class SlicedViTConfig(TransformerConfig):
    """Vision transformer over slices of a window."""

    patch_size: Pixels = Field(8, ge=1, le=64, description="Side of a patch; the window is a multiple of it.")
    width: Channels = Field(192, ge=8, le=4096, multiple_of=2, description="Features of a patch.")
    pooling: Pooling = "mean"


class SlicedViT(PatchEncoder):
    """Pixels come as pixels_BTCHW; patches of all slices pass the blocks together, after one class token.

    Attributes:
        groups: indices of the bands of each slice of a date; one group of all bands where slices are dates.
        dated: slices are dates, and their times count.
    """

    groups: tuple[tuple[int, ...], ...]
    dated: bool

    def __init__(self, config: Any, bands: int, told: int) -> None:
        """Make all but the patch embedding.

        Args:
            told: features of a token's position that tell its slice; the others tell its place.
        """
        super().__init__(config, bands)
        width, depth, heads = config.shape()
        _check_widths(width, told)
        self.pooling, self.told = config.pooling, told
        self.cls_token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        positions_1LD = sincos_2d(width - told, self.grid, self.grid, class_token=True)[None].float()
        self.pos_embed = nn.Parameter(positions_1LD, requires_grad=False)
        self.blocks = transformer_blocks(width, depth, heads)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.apply(initialise)

    @abstractmethod
    def cut(self, pixels_BTCHW: Tensor) -> Tensor:
        """Return tokens_BSLD of all patches of all slices, without positions."""

    @abstractmethod
    def tell(self, time_BT3: Tensor) -> Tensor:
        """Return told_BSE, what tells the slices apart."""

    @abstractmethod
    def dateless(self, pixels_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Return pixels_BTCHW and time_BT3 of windows whose date is not known."""

    def embed(self, pixels_BTCHW: Tensor, time_BT3: Tensor) -> Tensor:
        """Return tokens_BND of all patches, slice by slice, each row-major, with their positions.

        Raises:
            UserError: a size that is not a multiple of the patch.
        """
        rows, columns = self.patches(pixels_BTCHW)
        return self.cut(pixels_BTCHW).flatten(1, 2) + self.positions(time_BT3, rows, columns)

    def positions(self, time_BT3: Tensor, rows: int, columns: int) -> Tensor:
        """Return positions_BND: first the place, then the slice."""
        places_1LD = grid_positions(self.pos_embed, self.grid, rows, columns)[:, 1:]
        return join_positions(places_1LD, self.tell(time_BT3).to(places_1LD))

    def encode(self, tokens_BKD: Tensor) -> Tensor:
        """Return encoded tokens, the class token first and then those given, normalised."""
        encoded_BKD: Tensor = self.norm(self.blocks(self._with_class(tokens_BKD)))
        return encoded_BKD

    def feature_maps(self, pixels_BCHW: Tensor) -> list[FeatureMap]:
        """Return features after each quarter of the blocks, the last with the norm and the others normalised without
        weights; the mean of slices."""
        pixels_BTCHW, time_BT3 = self.dateless(pixels_BCHW)
        tokens_BKD = self._with_class(self.embed(pixels_BTCHW, time_BT3))
        found = at_quarters(self.blocks, self.norm, tokens_BKD)
        size = self.patches(pixels_BTCHW)
        return [FeatureMap(fold(encoded_BKD[:, 1:], *size), self.stride) for encoded_BKD in found]

    def embedding(self, pixels_BCHW: Tensor) -> Tensor:
        return self.dated_embedding(*self.dateless(pixels_BCHW))

    def dated_embedding(self, pixels_BTCHW: Tensor, time_BT3: Tensor) -> Tensor:
        """Return embedding_BD of all dates together: the class token, or the norm of the patches' mean."""
        encoded_BKD = self.blocks(self._with_class(self.embed(pixels_BTCHW, time_BT3)))
        pooled_BD = encoded_BKD[:, 0] if self.pooling == "class" else encoded_BKD[:, 1:].mean(1)
        embedding_BD: Tensor = self.norm(pooled_BD)
        return embedding_BD

    def _with_class(self, tokens_BKD: Tensor) -> Tensor:
        return torch.cat([self.cls_token.expand(tokens_BKD.shape[0], -1, -1), tokens_BKD], dim=1)


def join_positions(places_1LD: Tensor, told_BSE: Tensor) -> Tensor:
    """Put place and slice together as positions_BND, slice by slice."""
    count, slices, _ = told_BSE.shape
    patches = places_1LD.shape[1]
    places_BSLD = places_1LD[:, None].expand(count, slices, -1, -1)
    return torch.cat([places_BSLD, told_BSE[:, :, None].expand(-1, -1, patches, -1)], dim=3).flatten(1, 2)


def fold(tokens_BND: Tensor, rows: int, columns: int) -> Tensor:
    """Average tokens over their slices and lay them out as features_BDhw."""
    count, _, width = tokens_BND.shape
    return lay_out(tokens_BND.reshape(count, -1, rows * columns, width).mean(1), rows, columns)


def _check_widths(width: int, told: int) -> None:
    if told >= width or (width - told) % 4:
        raise UserError(
            f"Of {width} features {told} tell the date or the group of bands, which leaves {width - told} for the "
            "place. Choose a width that leaves a multiple of 4.",
            "encoder",
        )
