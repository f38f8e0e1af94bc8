"""Vision transformer with relative positions, as BEiT and data2vec train it.

Bao et al., 2022, "BEiT: BERT Pre-Training of Image Transformers", arXiv:2106.08254.

Shape letters: B batch, C bands, H rows, W columns, L patches, T = L + 1 tokens, D width, A heads, R relative positions,
h and w rows and columns of patches.
"""

import math
from collections.abc import Iterator
from functools import lru_cache, partial
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from timm.models.beit import Block
from torch import Tensor, nn
from torch.nn import functional

from rsfm.blocks.patch_embed import PatchEmbed
from rsfm.blocks.transformer import PatchEncoder, TransformerConfig, lay_out, quarters
from rsfm.encoder import FeatureMap
from rsfm.params import Hint

TO_CLASS = 3
"""Relative positions that lead from or to the class token: to a patch, from a patch, to itself."""


class RelativeViTConfig(TransformerConfig):
    """Vision transformer with relative positions."""

    layer_scale: Annotated[float, Hint(advanced=True)] = Field(
        0.1, ge=1e-6, le=1, description="How much a block adds at the start; less is steadier and slower."
    )


class RelativePositions(nn.Module):
    """What attention adds for the way from one patch to another; shared by all blocks."""

    def __init__(self, grid: int, heads: int) -> None:
        super().__init__()
        self.grid = grid
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * grid - 1) ** 2 + TO_CLASS, heads))

    def forward(self, rows: int, columns: int) -> Tensor:
        """Return bias_ATT; for another grid than its own the table is stretched, its centre and edges kept."""
        table_RA: Tensor = self.relative_position_bias_table
        if (rows, columns) != (self.grid, self.grid):
            ways_RA, class_RA = table_RA[:-TO_CLASS], table_RA[-TO_CLASS:]
            side = 2 * self.grid - 1
            ways_1Ahw = ways_RA.T.reshape(1, -1, side, side)
            size = (2 * rows - 1, 2 * columns - 1)
            if rows == 1:
                ways_1Ahw = ways_1Ahw[:, :, self.grid - 1 : self.grid]
            if columns == 1:
                ways_1Ahw = ways_1Ahw[..., self.grid - 1 : self.grid]
            ways_1Ahw = functional.interpolate(ways_1Ahw, size=size, mode="bicubic", align_corners=True)
            table_RA = torch.cat([ways_1Ahw[0].flatten(1).T, class_RA])
        return table_RA[relative_index(rows, columns).to(table_RA.device)].permute(2, 0, 1)


@lru_cache(maxsize=8)
def relative_index(rows: int, columns: int) -> Tensor:
    """Return index_TT into a table of relative positions: of the way to each patch (rows) from each other (columns)."""
    row_L, column_L = (part.flatten() for part in np.indices((rows, columns)))
    down_LL = row_L[:, None] - row_L[None] + rows - 1
    right_LL = column_L[:, None] - column_L[None] + columns - 1
    ways = (2 * rows - 1) * (2 * columns - 1)
    index_TT = np.full((rows * columns + 1,) * 2, ways)
    index_TT[1:, 0] = ways + 1
    index_TT[0, 0] = ways + 2
    index_TT[1:, 1:] = down_LL * (2 * columns - 1) + right_LL
    with torch.inference_mode(False):  # it is remembered, and training may follow a map
        return torch.from_numpy(index_TT)


class RelativeViT(PatchEncoder):
    """Tokens are the class token, then the patches row by row."""

    def __init__(self, config: Any, bands: int) -> None:
        super().__init__(config, bands)
        width, depth, heads = config.shape()
        self.patch_embed = PatchEmbed(None, config.patch_size, bands, width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.rel_pos_bias = RelativePositions(self.grid, heads)
        norm: Any = partial(nn.LayerNorm, eps=1e-6)
        self.blocks = nn.ModuleList(
            Block(width, heads, qkv_bias=True, init_values=config.layer_scale, norm_layer=norm) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.blocks.apply(initialise_short)
        nn.init.trunc_normal_(self.cls_token, std=0.02, a=-0.02, b=0.02)
        with torch.no_grad():
            for index, block in enumerate(self.blocks, start=1):
                for part in ("attn.proj", "mlp.fc2"):
                    block.get_parameter(f"{part}.weight").div_(math.sqrt(2 * index))

    def embed(self, pixels_BCHW: Tensor) -> Tensor:
        """Return tokens_BLD of all patches, row by row, without positions.

        Raises:
            UserError: a size that is not a multiple of the patch.
        """
        self.patches(pixels_BCHW)
        tokens_BLD: Tensor = self.patch_embed(pixels_BCHW)
        return tokens_BLD

    def layers(self, tokens_BLD: Tensor, rows: int) -> Iterator[Tensor]:
        """Return encoded_BTD after one block after the other, not normalised; `rows` of patches."""
        bias_ATT = self.rel_pos_bias(rows, tokens_BLD.shape[1] // rows)
        tokens_BTD = torch.cat([self.cls_token.expand(tokens_BLD.shape[0], -1, -1), tokens_BLD], dim=1)
        for block in self.blocks:
            tokens_BTD = block(tokens_BTD, shared_rel_pos_bias=bias_ATT)
            yield tokens_BTD

    def encode(self, tokens_BLD: Tensor, rows: int) -> Tensor:
        """Return encoded_BTD, the class token first, normalised; `rows` of patches."""
        *_, last_BTD = self.layers(tokens_BLD, rows)
        encoded_BTD: Tensor = self.norm(last_BTD)
        return encoded_BTD

    def feature_maps(self, pixels_BCHW: Tensor) -> list[FeatureMap]:
        """Return features after each quarter of the blocks, normalised without weights, and the last with the norm."""
        rows, columns = self.patches(pixels_BCHW)
        every = list(self.layers(self.embed(pixels_BCHW), rows))
        early = [every[end - 1] for end in quarters(len(every))[:-1]]
        found = [functional.layer_norm(tokens_BTD, (self.width,), eps=1e-6) for tokens_BTD in early]
        return [
            FeatureMap(lay_out(tokens_BTD[:, 1:], rows, columns), self.stride)
            for tokens_BTD in (*found, self.norm(every[-1]))
        ]

    def embedding(self, pixels_BCHW: Tensor) -> Tensor:
        """Return the norm of the patches' mean: no loss ever reads the class token."""
        rows, _ = self.patches(pixels_BCHW)
        *_, last_BTD = self.layers(self.embed(pixels_BCHW), rows)
        embedding_BD: Tensor = self.norm(last_BTD[:, 1:].mean(1))
        return embedding_BD


def initialise_short(module: nn.Module) -> None:
    """Give fresh weights to linear layers (normal, cut at one deviation of 0.02), as BEiT does; for `Module.apply`."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02, a=-0.02, b=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
