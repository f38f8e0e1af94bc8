"""Vision transformer over groups of bands: each group is a slice with a patch embedding of its own.

Cong et al., 2022, arXiv:2207.08051, section 4.2.

Shape letters: B batch, T dates, C bands, H rows, W columns, S slices (groups), L patches, D width, E features of the
group.
"""

import re
from itertools import pairwise
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from rsfm.blocks.patch_embed import PatchEmbed
from rsfm.blocks.positions import sincos_1d
from rsfm.blocks.sliced_vit import SlicedViT, SlicedViTConfig
from rsfm.errors import UserError
from rsfm.params import Channels, Hint

NEIGHBOURS = 3


class ViTGroupedConfig(SlicedViTConfig, title="ViT on groups of bands"):
    """Vision transformer that sees groups of bands apart, for SatMAE on many bands: made for a GPU."""

    name: Literal["vit_grouped"] = "vit_grouped"
    groups: str = Field(
        "",
        max_length=2000,
        description="Numbers of the bands that belong together, such as 1,2,3,7; 4,5,6,8; 9,10. "
        "Empty puts up to three neighbours together.",
    )
    group_width: Channels = Field(
        64, ge=2, le=2048, multiple_of=2, description="Features of a position that tell the group."
    )
    learn_groups: Annotated[bool, Hint(advanced=True)] = Field(
        False, description="Learn what tells the groups apart; otherwise it stays as it is, sines and cosines."
    )


class ViTGrouped(SlicedViT):
    name = "vit_grouped"
    Config = ViTGroupedConfig
    dated = False

    def __init__(self, config: Any, bands: int) -> None:
        super().__init__(config, bands, config.group_width)
        self.groups = read_groups(config.groups, bands) if config.groups.strip() else neighbours(bands)
        embeds = [PatchEmbed(None, config.patch_size, len(group), self.width) for group in self.groups]
        self.patch_embed = nn.ModuleList(embeds)
        told_1SE = sincos_1d(self.told, torch.arange(len(self.groups), device="cpu"))[None].float()
        self.channel_embed = nn.Parameter(told_1SE, requires_grad=config.learn_groups)
        for embed in embeds:
            nn.init.xavier_uniform_(embed.proj.weight.flatten(1))

    def cut(self, pixels_BTCHW: Tensor) -> Tensor:
        slices = [
            embed(pixels_BCHW[:, list(group)])
            for pixels_BCHW in pixels_BTCHW.unbind(1)
            for embed, group in zip(self.patch_embed, self.groups, strict=True)
        ]
        return torch.stack(slices, dim=1)

    def tell(self, time_BT3: Tensor) -> Tensor:
        return self.channel_embed.expand(time_BT3.shape[0], -1, -1).repeat(1, time_BT3.shape[1], 1)

    def dateless(self, pixels_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        return pixels_BCHW[:, None], torch.zeros(
            pixels_BCHW.shape[0], 1, 3, dtype=torch.long, device=pixels_BCHW.device
        )


def neighbours(bands: int) -> tuple[tuple[int, ...], ...]:
    """Put neighbouring bands together, in groups of up to three that differ by one band at most."""
    count = -(-bands // NEIGHBOURS)
    cuts = [index * bands // count for index in range(count + 1)]
    return tuple(tuple(range(first, last)) for first, last in pairwise(cuts))


def read_groups(text: str, bands: int) -> tuple[tuple[int, ...], ...]:
    """Read groups of band numbers, counted from 1, and return their indices.

    Raises:
        UserError: they are not each of the bands once.
    """
    try:
        groups = [[int(number) for number in re.split(r"[,\s]+", part.strip(", "))] for part in text.split(";")]
    except ValueError as error:
        raise UserError(
            f"'{text}' cannot be read as groups of bands. Write numbers with commas between them and semicolons "
            "between groups under 'Groups', such as 1,2,3; 4,5.",
            "encoder.groups",
        ) from error
    named = sorted(number for group in groups for number in group)
    if named != list(range(1, bands + 1)):
        raise UserError(
            f"The groups '{text}' name the bands {', '.join(map(str, named))}, but there are {bands} bands. "
            f"Name each number from 1 to {bands} once under 'Groups', or leave it empty.",
            "encoder.groups",
        )
    return tuple(tuple(number - 1 for number in group) for group in groups)
