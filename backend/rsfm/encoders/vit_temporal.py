"""Vision transformer over several dates of a window: each date is a slice with the same patch embedding.

Cong et al., 2022, arXiv:2207.08051, section 4.1.

Shape letters: B batch, T dates, C bands, H rows, W columns, L patches, D width, E features of the time.
"""

from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from rsfm.blocks.dates import FIRST_YEAR, encode_time
from rsfm.blocks.patch_embed import PatchEmbed
from rsfm.blocks.sliced_vit import SlicedViT, SlicedViTConfig
from rsfm.params import Channels


class ViTTemporalConfig(SlicedViTConfig, title="ViT on dates"):
    """Vision transformer that is told the date, for SatMAE on several dates: made for a GPU."""

    name: Literal["vit_temporal"] = "vit_temporal"
    time_width: Channels = Field(
        96, ge=6, le=3072, multiple_of=6, description="Features of a position that tell year, month and hour."
    )
    year: int = Field(2020, ge=1970, le=2100, description="Year that is assumed where a raster's date is not known.")
    month: int = Field(6, ge=1, le=12, description="Month that is assumed where a raster's date is not known.")
    hour: int = Field(10, ge=0, le=23, description="Hour in UTC that is assumed where a raster's date is not known.")


class ViTTemporal(SlicedViT):
    name = "vit_temporal"
    Config = ViTTemporalConfig
    dated = True

    def __init__(self, config: Any, bands: int) -> None:
        super().__init__(config, bands, config.time_width)
        self.groups = (tuple(range(bands)),)
        self.assumed = (config.year - FIRST_YEAR, config.month - 1, config.hour)
        self.patch_embed = PatchEmbed(None, config.patch_size, bands, self.width)
        nn.init.xavier_uniform_(self.patch_embed.proj.weight.flatten(1))

    def cut(self, pixels_BTCHW: Tensor) -> Tensor:
        tokens_NLD: Tensor = self.patch_embed(pixels_BTCHW.flatten(0, 1))
        return tokens_NLD.reshape(*pixels_BTCHW.shape[:2], *tokens_NLD.shape[1:])

    def tell(self, time_BT3: Tensor) -> Tensor:
        return encode_time(time_BT3, self.told)

    def dateless(self, pixels_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        time_3 = torch.tensor(self.assumed, device=pixels_BCHW.device)
        return pixels_BCHW[:, None], time_3.expand(pixels_BCHW.shape[0], 1, 3)
