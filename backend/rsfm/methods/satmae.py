"""SatMAE: rebuild the hidden patches of several dates, or of groups of bands, from the visible ones.

Cong et al., 2022, "SatMAE: Pre-training Transformers for Temporal and Multi-Spectral Satellite Imagery",
arXiv:2207.08051. The encoder decides which: with 'vit_temporal' a slice of a window is a date, with 'vit_grouped' a
group of its bands. A preset hides cubes of neighbouring bands in the manner of Li et al., 2024, "S2MAE: A
Spatial-Spectral Pretraining Foundation Model for Spectral Remote Sensing Data".

Shape letters: B batch, T dates, J dates chosen, C bands, H rows, W columns, G groups of bands, S slices (T * G), L
patches of a slice, N patches of all slices, slice by slice (S * L), K kept, P pixels of a patch, D encoder width, E
decoder width.
"""

from typing import Any, Literal, NamedTuple, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from rsfm.blocks.crops import cut, draw_crop
from rsfm.blocks.dates import choose_dates, encode_time, take_dates, usable_dates
from rsfm.blocks.masking import (
    Split,
    fill,
    kept_count,
    patchify,
    restore,
    split_patches,
    split_positions,
    standardise,
    take,
    unpatchify,
)
from rsfm.blocks.positions import grid_positions, sincos_1d, sincos_2d
from rsfm.blocks.ranks import mean_of_all, own_rows, ranks
from rsfm.blocks.recipes import EVENING, EVENING_DECODER, EVENING_VIT, MAE_QUICK, MAE_TRAINING, SMALL_VIT, Recipe
from rsfm.blocks.sliced_vit import SlicedViT, join_positions
from rsfm.blocks.transformer import DecoderDepth, DecoderHeads, MaskRatio, check_decoder, initialise, transformer_blocks
from rsfm.encoder import Encoder
from rsfm.errors import UserError
from rsfm.job import Preset
from rsfm.method import Loss, Method, MethodConfig, Picture, Sample
from rsfm.params import Channels

REPEATED = (
    "Each window has one date only, so SatMAE sees the same pixels several times and learns nothing about change with "
    "time. Choose rasters of the same place at several dates under 'Rasters', or the encoder 'vit_grouped'."
)
SMALLEST_CROP = 0.2
"""Share of a window that a published crop covers at least."""


class SatMAEConfig(MethodConfig):
    """Like MAE, but hides groups of bands or dates apart. For rasters of many bands or dates; pays as MAE does."""

    name: Literal["satmae"] = "satmae"
    dates: int = Field(3, ge=1, le=12, description="Dates of a window that are seen together; for 'vit_temporal'.")
    mask_ratio: MaskRatio = 0.75
    masking: Literal["independent", "consistent"] = Field(
        "independent",
        description="Which patches are hidden.",
        json_schema_extra={
            "choices": ["independent", "consistent"],
            "titles": ["Others in each date or group", "The same in all dates or groups"],
        },
    )
    norm_pix: Literal["off", "patch", "band"] = Field(
        "patch",
        description="What a patch is rebuilt relative to.",
        json_schema_extra={
            "choices": ["off", "patch", "band"],
            "titles": [
                "Nothing: its pixels as they are",
                "Mean and spread of all its bands together",
                "Mean and spread of each band",
            ],
        },
    )
    views: Literal["window", "published"] = Field(
        "window",
        description="What is rebuilt.",
        json_schema_extra={
            "choices": ["window", "published"],
            "titles": ["The window as it is", "A resized crop of it, mirrored, the same for all dates"],
        },
    )
    pairing: Literal["corrected", "official"] = Field(
        "corrected",
        description="Band that each output is compared with.",
        json_schema_extra={
            "choices": ["corrected", "official"],
            "titles": ["Its own", "As the authors' code has it, to go on with their weights"],
            "advanced": True,
        },
    )
    decoder_width: Channels = Field(96, ge=8, le=1024, multiple_of=2, description="Width of the decoder.")
    decoder_told: Channels = Field(
        24, ge=2, le=1000, multiple_of=2, description="Features of the decoder's positions that tell date or group."
    )
    decoder_depth: DecoderDepth = 2
    decoder_heads: DecoderHeads = 3

    @model_validator(mode="after")
    def _fits(self) -> Self:
        check_decoder(self.decoder_width, self.decoder_heads)
        if self.decoder_told >= self.decoder_width or (self.decoder_width - self.decoder_told) % 4:
            raise ValueError(
                f"Decoder width ({self.decoder_width}) less decoder told ({self.decoder_told}) "
                "must be a multiple of 4 above 0."
            )
        return self


class Cube(NamedTuple):
    """What a step works on: pixels_BTCHW, 0 where invalid, valid_BTHW and time_BT3."""

    pixels_BTCHW: Tensor
    valid_BTHW: Tensor
    time_BT3: Tensor


QUICK: Recipe = {
    "method": {"name": "satmae", "norm_pix": "patch", "decoder_width": 96, "decoder_told": 24},
    "encoder": {**SMALL_VIT, "name": "vit_grouped", "patch_size": 8},
    "training": MAE_QUICK,
    "window": 32,
}
OFFICIAL_TRAINING: Recipe = {**MAE_TRAINING, "epochs": 200, "learning_rate": 1e-4, "warmup": 0.1}
OFFICIAL_DECODER: Recipe = {"decoder_width": 512, "decoder_depth": 8, "decoder_heads": 16}
GROUPS: Recipe = {"name": "satmae", "norm_pix": "off", "views": "published"}
LARGE_TEMPORAL: Recipe = {"name": "vit_temporal", "size": "large", "patch_size": 16, "window": 224, "time_width": 384}
DATES: Recipe = {"name": "satmae", "norm_pix": "patch", "views": "window"}


class SatMAE(Method):
    name = "satmae"
    title = "SatMAE"
    Config = SatMAEConfig
    presets = (
        Preset(
            "satmae_quick",
            "SatMAE on groups of bands: quick, minutes on a CPU",
            "A small variant, not the paper's model; for rasters of many bands. Minutes on a CPU pay, as MAE's do.",
            QUICK,
        ),
        Preset(
            "satmae_temporal_quick",
            "SatMAE on dates: quick, minutes on a CPU",
            "A small variant, not the paper's model; for rasters of one place at several dates.",
            {**QUICK, "encoder": {**QUICK["encoder"], "name": "vit_temporal", "time_width": 96}},
        ),
        Preset(
            "satmae_cubes_quick",
            "SatMAE on cubes of bands (S2MAE): quick, minutes on a CPU",
            "A small variant, not the paper's model: nine tenths of all cubes of three neighbouring bands are hidden. "
            "For rasters of many bands.",
            {
                **QUICK,
                "method": {**QUICK["method"], "mask_ratio": 0.9, "masking": "independent"},
                "encoder": {**QUICK["encoder"], "learn_groups": True},
            },
        ),
        Preset(
            "satmae_gpu",
            "SatMAE on groups of bands: evening on a GPU, ViT-S/8",
            "Four hours on one GPU: a smaller network, the paper's recipe, for any bands. Its worth is not measured.",
            {
                "method": {**GROUPS, **EVENING_DECODER, "decoder_told": 64},
                "encoder": {"name": "vit_grouped", **EVENING_VIT, "window": 96, "group_width": 128},
                "training": {**OFFICIAL_TRAINING, **EVENING},
                "window": 96,
            },
            for_gpu=True,
        ),
        Preset(
            "satmae_temporal_gpu",
            "SatMAE on dates: evening on a GPU, ViT-S/8",
            "Four hours on one GPU: a smaller network, the paper's recipe. Its worth is not measured.",
            {
                "method": {**DATES, **EVENING_DECODER, "decoder_told": 96},
                "encoder": {"name": "vit_temporal", **EVENING_VIT, "window": 96, "time_width": 192},
                "training": {**OFFICIAL_TRAINING, **EVENING, "learning_rate": 1.5e-4},
                "window": 96,
            },
            for_gpu=True,
        ),
        Preset(
            "satmae_official",
            "SatMAE on groups of bands: as published, ViT-B/8, days on a GPU",
            "The paper's model and recipe for ten bands of Sentinel-2 (B2 to B8, B8A, B11, B12), the learning rate "
            "scaled to 256 windows a step: days on a GPU.",
            {
                "method": {**GROUPS, **OFFICIAL_DECODER, "decoder_told": 128},
                "encoder": {
                    "name": "vit_grouped",
                    "size": "base",
                    "patch_size": 8,
                    "window": 96,
                    "groups": "1,2,3,7; 4,5,6,8; 9,10",
                    "group_width": 256,
                },
                "training": OFFICIAL_TRAINING,
                "window": 96,
            },
            for_gpu=True,
        ),
        Preset(
            "satmae_temporal_official",
            "SatMAE on three dates: as published, ViT-L/16, days on a GPU",
            "The paper's model and recipe, the learning rate scaled to 256 windows a step: days on a GPU.",
            {
                "method": {**DATES, **OFFICIAL_DECODER, "decoder_told": 192},
                "encoder": LARGE_TEMPORAL,
                "training": {**OFFICIAL_TRAINING, "epochs": 100, "learning_rate": 1.5e-4, "warmup": 0.4},
                "window": 224,
            },
            for_gpu=True,
        ),
    )
    encoder: SlicedViT

    def __init__(self, config: Any, encoder: Encoder) -> None:
        super().__init__(config, encoder)
        if not isinstance(encoder, SlicedViT):
            raise UserError(
                f"SatMAE hides patches of dates or of groups of bands, and the encoder '{encoder.name}' has neither. "
                "Choose the encoder 'vit_grouped' for many bands, or 'vit_temporal' for several dates.",
                "encoder",
            )
        if encoder.dated and config.decoder_told % 6:
            raise UserError(
                f"Year, month and hour cannot share {config.decoder_told} features. "
                "Choose a multiple of 6 under 'Decoder told'.",
                "method.decoder_told",
            )
        self.config: SatMAEConfig = config
        self.encoder = encoder
        self.dates, self.timed = (config.dates, True) if encoder.dated else (1, False)
        width, told, pixels = config.decoder_width, config.decoder_told, encoder.patch_size**2
        self.decoder_embed = nn.Linear(encoder.width, width)
        self.mask_token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        positions_1LE = sincos_2d(width - told, encoder.grid, encoder.grid, class_token=True)[None].float()
        self.decoder_pos_embed = nn.Parameter(positions_1LE, requires_grad=False)
        if not encoder.dated:  # the last row is the class token's
            told_1SE = sincos_1d(told, torch.arange(len(encoder.groups) + 1))[None].float()
            self.decoder_channel_embed = nn.Parameter(told_1SE, requires_grad=False)
        self.decoder_blocks = transformer_blocks(width, config.decoder_depth, config.decoder_heads)
        self.decoder_norm = nn.LayerNorm(width, eps=1e-6)
        self.decoder_pred = nn.ModuleList(nn.Linear(width, pixels * len(group)) for group in encoder.groups)
        for part in (self.decoder_embed, self.decoder_blocks, self.decoder_norm, self.decoder_pred):
            part.apply(initialise)

    def pictures(self, sample: Sample) -> list[Picture]:
        """Show the windows date by date, what is left of them, and what is rebuilt among it."""
        cube = self.cube(sample)
        split, size = self.hide(cube), self.encoder.patch_size
        rebuilt_BTCLP = self.rebuild(self.see(cube, split), split, cube).float()
        pixels_BTCHW = cube.pixels_BTCHW.float()
        valid_BTCHW = cube.valid_BTHW[:, :, None].expand_as(pixels_BTCHW)
        patches_BTCLP = _cut(pixels_BTCHW, size)
        if self.config.norm_pix != "off":
            over = (2, 4) if self.config.norm_pix == "patch" else (4,)
            rebuilt_BTCLP = restore(rebuilt_BTCLP, patches_BTCLP, _cut(valid_BTCHW.float(), size), over)
        hidden_BTGL = split.hidden_BL.bool().reshape(*pixels_BTCHW.shape[:2], len(self.encoder.groups), -1)
        group_C = [number for _, number in sorted((c, g) for g, own in enumerate(self.encoder.groups) for c in own)]
        hidden_BTCHW = _join(hidden_BTGL[:, :, group_C, :, None].expand_as(patches_BTCLP), pixels_BTCHW, size)
        filled_BTCHW = torch.where(hidden_BTCHW, _join(rebuilt_BTCLP, pixels_BTCHW, size), pixels_BTCHW)
        return [
            Picture("Window", pixels_BTCHW, valid_BTCHW),
            Picture("Seen", pixels_BTCHW, valid_BTCHW & ~hidden_BTCHW),
            Picture("Rebuilt", filled_BTCHW, valid_BTCHW),
        ]

    def loss(self, sample: Sample, progress: float) -> Loss:
        cube = self.crop(self.cube(sample))
        split = self.hide(cube)
        rebuilt_BTCLP = self.rebuild(self.see(cube, split), split, cube)
        total = self.error(rebuilt_BTCLP, cube, split.hidden_BL)
        dates = 1 if sample.dates is None else sample.dates.valid_BTHW.shape[1]
        repeated = self.encoder.dated and self.config.dates > 1 and dates == 1
        return Loss(total, {"reconstruction": total.detach()}, (REPEATED,) if repeated else ())

    def cube(self, sample: Sample) -> Cube:
        """Choose the dates: the sample's own and others at random; the same one again where there is no other."""
        pixels_BTCHW, time_BT3 = self.encoder.dateless(sample.pixels_BCHW)
        if not self.encoder.dated:
            return Cube(pixels_BTCHW, sample.valid_BHW[:, None], time_BT3)
        if sample.dates is None:
            repeat = (-1, self.config.dates, -1, -1)
            valid_BTHW = sample.valid_BHW[:, None].expand(repeat)
            return Cube(pixels_BTCHW.expand(*repeat, -1), valid_BTHW, time_BT3.expand(repeat[:3]))
        dates = sample.dates
        index_BJ = choose_dates(usable_dates(dates.valid_BTHW), self.config.dates)
        return Cube(*(take_dates(part, index_BJ) for part in (dates.pixels_BTCHW, dates.valid_BTHW, dates.time_BT3)))

    def crop(self, cube: Cube) -> Cube:
        """Cut the same rectangle out of all dates, if views are published ones."""
        if self.config.views == "window":
            return cube
        count, dates, _, height, width = cube.pixels_BTCHW.shape
        size = self.encoder.window
        crop = draw_crop(count, height, width, (SMALLEST_CROP, 1.0), cube.pixels_BTCHW.device)
        views = [cut(cube.pixels_BTCHW[:, t], cube.valid_BTHW[:, t], crop, size, "bicubic") for t in range(dates)]
        pixels_BTCHW = torch.stack([view.pixels_BCHW for view in views], dim=1)
        return Cube(pixels_BTCHW, torch.stack([view.valid_BHW for view in views], dim=1), cube.time_BT3)

    def hide(self, cube: Cube, noise: Tensor | None = None) -> Split:
        """Choose the patches that are hidden, for each window anew.

        Args:
            noise: noise_BN, or noise_BL if the same patches are hidden in all slices; drawn if not given.
        """
        rows, columns = self.encoder.patches(cube.pixels_BTCHW)
        count, dates = cube.pixels_BTCHW.shape[:2]
        slices, patches, ratio = dates * len(self.encoder.groups), rows * columns, self.config.mask_ratio
        same = self.config.masking == "consistent"
        if noise is None:
            drawn = (count * ranks(), patches if same else slices * patches)
            noise = own_rows(torch.rand(drawn, device=cube.pixels_BTCHW.device))
        if not same:
            return split_patches(noise, kept_count(slices * patches, ratio))
        kept_each = kept_count(patches, ratio)
        kept = kept_count(slices * patches, ratio) if self.encoder.dated else slices * kept_each
        return split_positions(noise, slices, kept_each, kept)

    def see(self, cube: Cube, split: Split) -> Tensor:
        """Encode the kept patches, the class token first."""
        return self.encoder.encode(take(self.encoder.embed(cube.pixels_BTCHW, cube.time_BT3), split.keep_BK))

    def rebuild(self, seen_BKD: Tensor, split: Split, cube: Cube) -> Tensor:
        """Predict rebuilt_BTCLP, the pixels of all patches, from the kept ones.

        With the official pairing the bands stand in the order of the groups, else in that of the raster.
        """
        tokens_BNE = fill(self.decoder_embed(seen_BKD), self.mask_token, split) + self.positions(cube)
        decoded_BNE = self.decoder_norm(self.decoder_blocks(tokens_BNE))[:, 1:]
        dates, groups = cube.pixels_BTCHW.shape[1], self.encoder.groups
        decoded_BTGLE = decoded_BNE.reshape(len(decoded_BNE), dates, len(groups), -1, decoded_BNE.shape[2])
        parts = []
        for index, (predict, group) in enumerate(zip(self.decoder_pred, groups, strict=True)):
            values_BTLV = predict(decoded_BTGLE[:, :, index])
            shape, bands, pixels = values_BTLV.shape[:3], len(group), self.encoder.patch_size**2
            if self.encoder.dated:  # the band is fastest in a patch
                parts.append(values_BTLV.reshape(*shape, pixels, bands).permute(0, 1, 4, 2, 3))
            else:
                parts.append(values_BTLV.reshape(*shape, bands, pixels).transpose(2, 3))
        rebuilt_BTCLP = torch.cat(parts, dim=2)
        if self.config.pairing == "official":
            return rebuilt_BTCLP
        order_C = torch.tensor([band for group in groups for band in group], device=rebuilt_BTCLP.device)
        return rebuilt_BTCLP[:, :, order_C.argsort()]

    def positions(self, cube: Cube) -> Tensor:
        """Return the decoder's positions, the class token's first: it has a place of zeros, and tells no date."""
        rows, columns = self.encoder.patches(cube.pixels_BTCHW)
        count, dates = cube.pixels_BTCHW.shape[:2]
        places_1LE = grid_positions(self.decoder_pos_embed, self.encoder.grid, rows, columns)
        if self.encoder.dated:
            told_BSE = encode_time(cube.time_BT3, self.config.decoder_told).to(places_1LE)
            class_BE = torch.zeros_like(told_BSE[:, 0])
        else:
            told_BSE = self.decoder_channel_embed[:, :-1].expand(count, -1, -1).repeat(1, dates, 1)
            class_BE = self.decoder_channel_embed[:, -1].expand(count, -1)
        class_B1E = torch.cat([places_1LE[:, 0].expand(count, -1), class_BE], dim=1)[:, None]
        return torch.cat([class_B1E, join_positions(places_1LE[:, 1:], told_BSE)], dim=1)

    def error(self, rebuilt_BTCLP: Tensor, cube: Cube, hidden_BN: Tensor) -> Tensor:
        """Mean over the hidden patches of the mean squared error of their valid pixels; each patch counts the same.

        Beyond the paper, nodata is left out, and so is a patch of which less than half is valid.
        """
        valid_BTLP = _cut(cube.valid_BTHW[:, :, None].float(), self.encoder.patch_size)[:, :, 0]
        target_BTCLP = self.target(cube.pixels_BTCHW.float(), valid_BTLP)
        error_BTCL = ((rebuilt_BTCLP.float() - target_BTCLP).square() * valid_BTLP[:, :, None]).sum(4)
        error_BTCL = error_BTCL / valid_BTLP.sum(3).clamp(min=1)[:, :, None]
        error_BTGL = torch.stack([error_BTCL[:, :, list(group)].mean(2) for group in self.encoder.groups], dim=2)
        asked_BTGL = hidden_BN.reshape(error_BTGL.shape) * (valid_BTLP.mean(3) >= 0.5)[:, :, None]
        return mean_of_all((error_BTGL * asked_BTGL).sum(), asked_BTGL.sum())

    def target(self, pixels_BTCHW: Tensor, valid_BTLP: Tensor) -> Tensor:
        """Return what is rebuilt, target_BTCLP: pixels, or pixels less the mean over the spread of patch or band."""
        target_BTCLP = _cut(pixels_BTCHW, self.encoder.patch_size)
        if self.config.norm_pix == "off":
            return target_BTCLP
        valid_BTCLP = valid_BTLP[:, :, None].expand_as(target_BTCLP)
        return standardise(target_BTCLP, valid_BTCLP, over=(2, 4) if self.config.norm_pix == "patch" else (4,))


def _cut(pixels_BTCHW: Tensor, patch_size: int) -> Tensor:
    """Cut each band of each date into patches_BTCLP, row-major."""
    patches_NLP = patchify(pixels_BTCHW.flatten(0, 2)[:, None], patch_size)
    return patches_NLP.reshape(*pixels_BTCHW.shape[:3], *patches_NLP.shape[1:])


def _join(patches_BTCLP: Tensor, like_BTCHW: Tensor, patch_size: int) -> Tensor:
    """Put patches of each band of each date back together, in the shape of the windows they were cut from."""
    rows = like_BTCHW.shape[3] // patch_size
    return unpatchify(patches_BTCLP.flatten(0, 2), patch_size, rows).reshape(like_BTCHW.shape)
