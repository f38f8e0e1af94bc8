"""Attention to a few points of several feature maps, at places that are learned.

Zhu et al., 2021, "Deformable DETR: Deformable Transformers for End-to-End Object Detection", arXiv:2010.04159.

Shape letters: B batch, Q queries, A heads, L levels (maps), P points, T tokens of all levels, D width, E values of a
head, h and w rows and columns of a level.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

Size = tuple[int, int]
"""Rows and columns of a level."""


class DeformableAttention(nn.Module):
    """Each query looks at `points` places of each level around its own place, with every head."""

    def __init__(self, width: int, levels: int, heads: int, points: int, ratio: float) -> None:
        """Make it.

        Args:
            ratio: width of all values together, as a share of `width`.
        """
        super().__init__()
        self.levels, self.heads, self.points = levels, heads, points
        inner = round(width * ratio)
        self.sampling_offsets = nn.Linear(width, heads * levels * points * 2)
        self.attention_weights = nn.Linear(width, heads * levels * points)
        self.value_proj = nn.Linear(width, inner)
        self.output_proj = nn.Linear(inner, width)
        self.initialise()

    def initialise(self) -> None:
        """Give fresh weights: at first each head looks along a ray of its own, all points alike."""
        for layer in (self.sampling_offsets, self.attention_weights):
            nn.init.zeros_(layer.weight)
        nn.init.zeros_(self.attention_weights.bias)
        for layer in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        angle_A = torch.arange(self.heads, dtype=torch.float32) * (2 * math.pi / self.heads)
        ray_A2 = torch.stack([angle_A.cos(), angle_A.sin()], dim=1)
        ray_A2 = ray_A2 / ray_A2.abs().amax(1, keepdim=True)
        step_P = torch.arange(1, self.points + 1, dtype=torch.float32)
        offset_ALP2 = (ray_A2[:, None, None] * step_P[:, None]).expand(-1, self.levels, -1, -1)
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(offset_ALP2.flatten())

    def forward(self, query_BQD: Tensor, place_BQ12: Tensor, value_BTD: Tensor, sizes: Sequence[Size]) -> Tensor:
        """Return what the queries find, found_BQD.

        Args:
            place_BQ12: the place of each query as shares of the width and of the height, alike for all windows and
                levels where a dimension is 1.
            value_BTD: what is looked at, level by level, each row by row.
            sizes: of the levels.
        """
        batch, queries, _ = query_BQD.shape
        shape = (batch, queries, self.heads, self.levels, self.points)
        offset_BQALP2 = self.sampling_offsets(query_BQD).reshape(*shape, 2)
        weight_BQAN = self.attention_weights(query_BQD).reshape(*shape[:3], -1).softmax(-1)
        extent_L2 = query_BQD.new_tensor([(columns, rows) for rows, columns in sizes])
        place_BQALP2 = place_BQ12[:, :, None, :, None] + offset_BQALP2 / extent_L2[:, None]
        value_BTAE = self.value_proj(value_BTD).unflatten(2, (self.heads, -1))
        found_BQD: Tensor = self.output_proj(look_up(value_BTAE, sizes, place_BQALP2, weight_BQAN))
        return found_BQD


def look_up(value_BTAE: Tensor, sizes: Sequence[Size], place_BQALP2: Tensor, weight_BQAN: Tensor) -> Tensor:
    """Sum up values at places, bilinear between the centres of cells and 0 outside; returns sum_BQD of all heads.

    Args:
        weight_BQAN: of each place, level by level.
    """
    batch, _, heads, width = value_BTAE.shape
    grid_NQLP2 = 2 * place_BQALP2.transpose(1, 2).flatten(0, 1) - 1  # N is B * A from here on
    found = []
    levels_BTAE = torch.split(value_BTAE, [rows * columns for rows, columns in sizes], dim=1)
    for level, (level_BTAE, size) in enumerate(zip(levels_BTAE, sizes, strict=True)):
        map_NEhw = level_BTAE.permute(0, 2, 3, 1).reshape(batch * heads, width, *size)
        map_NEhw = map_NEhw.contiguous()  # of a single window it is a view
        grid_NQP2 = grid_NQLP2[:, :, level]
        found.append(functional.grid_sample(map_NEhw, grid_NQP2, "bilinear", "zeros", align_corners=False))
    every_NEQP = torch.cat(found, dim=3)
    weight_N1QP = weight_BQAN.transpose(1, 2).flatten(0, 1)[:, None]
    sum_NEQ = (every_NEQP * weight_N1QP).sum(-1)
    return sum_NEQ.reshape(batch, heads * width, -1).mT


def centres(sizes: Sequence[Size], like: Tensor) -> Tensor:
    """Return the centres of the cells of levels as shares of width and height, place_1Q12."""
    places = []
    for rows, columns in sizes:
        down_h = (torch.arange(rows, device=like.device, dtype=like.dtype) + 0.5) / rows
        right_w = (torch.arange(columns, device=like.device, dtype=like.dtype) + 0.5) / columns
        y_hw, x_hw = torch.meshgrid(down_h, right_w, indexing="ij")
        places.append(torch.stack([x_hw.flatten(), y_hw.flatten()], dim=1))
    return torch.cat(places)[None, :, None]
