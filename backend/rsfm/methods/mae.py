"""Masked autoencoder: rebuild the hidden patches of a window from the visible ones.

He et al., 2022, "Masked Autoencoders Are Scalable Vision Learners", arXiv:2111.06377. A variant hides cells inside
patches (Sun et al., 2023, "RingMo: A Remote Sensing Foundation Model With Masked Image Modeling").

Shape letters: B batch, C bands, H rows, W columns, L patches, K kept, D encoder width, E decoder width,
P values of a patch (C * patch_size ** 2).
"""

import math
from typing import Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from rsfm.blocks.masking import (
    Split,
    fill,
    kept_count,
    patchify,
    restore,
    split_patches,
    standardise,
    take,
    unpatchify,
)
from rsfm.blocks.pixel_masking import draw_hidden
from rsfm.blocks.positions import grid_positions, sincos_2d
from rsfm.blocks.ranks import mean_of_all, own_rows, ranks
from rsfm.blocks.recipes import EVENING_DECODER, EVENING_VIT, MAE_EVENING, MAE_QUICK, MAE_TRAINING, SMALL_VIT
from rsfm.blocks.transformer import (
    DecoderDepth,
    DecoderHeads,
    MaskRatio,
    TokenEncoder,
    check_decoder,
    initialise,
    transformer_blocks,
)
from rsfm.blocks.validity import nothing_missing
from rsfm.blocks.view import View
from rsfm.blocks.views import resized_crop
from rsfm.encoder import Encoder
from rsfm.errors import UserError
from rsfm.job import Preset
from rsfm.method import Loss, Method, MethodConfig, Picture, Sample
from rsfm.params import Channels, Fraction


class MAEConfig(MethodConfig):
    """Hides most of each window and learns to rebuild it. Pays after 15 minutes on a CPU, if less than MoCo v2."""

    name: Literal["mae"] = "mae"
    mask_ratio: MaskRatio = 0.75
    hiding: Literal["patches", "cells"] = Field(
        "patches",
        description="What is hidden.",
        json_schema_extra={
            "choices": ["patches", "cells"],
            "titles": ["Whole patches", "Cells inside patches, so that small objects leave traces (RingMo)"],
        },
    )
    hidden_cells: Fraction = Field(
        0.8,
        ge=0.05,
        le=1,
        description="Share of a chosen patch's cells that is hidden; 'Mask ratio' is the share of patches chosen.",
    )
    norm_pix: bool = Field(
        True, description="Rebuild each patch relative to its own mean and spread; for whole patches only."
    )
    views: Literal["window", "published"] = Field(
        "window",
        description="What is rebuilt.",
        json_schema_extra={
            "choices": ["window", "published"],
            "titles": ["The window as it is", "As published: a resized crop of it, mirrored"],
        },
    )
    decoder_width: Channels = Field(96, ge=4, le=1024, multiple_of=4, description="Width of the decoder.")
    decoder_depth: DecoderDepth = 2
    decoder_heads: DecoderHeads = 3

    @model_validator(mode="after")
    def _fits(self) -> Self:
        check_decoder(self.decoder_width, self.decoder_heads)
        return self


class MAE(Method):
    name = "mae"
    title = "Masked autoencoder (MAE)"
    Config = MAEConfig
    presets = (
        Preset(
            "mae_quick",
            "MAE: quick, minutes on a CPU",
            "A small variant, not the paper's model. Minutes on a CPU pay; MoCo v2 learns more in the same time.",
            {
                "method": {
                    "name": "mae",
                    "mask_ratio": 0.6,
                    "norm_pix": True,
                    "views": "window",
                    "decoder_width": 96,
                    "decoder_depth": 2,
                    "decoder_heads": 3,
                },
                "encoder": {"name": "vit", **SMALL_VIT},
                "training": MAE_QUICK,
                "window": 32,
            },
        ),
        Preset(
            "mae_gpu",
            "MAE: evening on a GPU, ViT-S/8",
            "Four hours on one GPU: the paper's recipe, a smaller network, small windows. Its worth is not measured.",
            {
                "method": {
                    "name": "mae",
                    "mask_ratio": 0.75,
                    "norm_pix": True,
                    "views": "published",
                    **EVENING_DECODER,
                },
                "encoder": {"name": "vit", **EVENING_VIT, "window": 128},
                "training": MAE_EVENING,
                "window": 128,
            },
            for_gpu=True,
        ),
        Preset(
            "mae_official",
            "MAE: as published, ViT-B/16, days on a GPU",
            "The paper's model and recipe, the learning rate scaled to 256 windows a step: days on a GPU.",
            {
                "method": {
                    "name": "mae",
                    "mask_ratio": 0.75,
                    "norm_pix": True,
                    "views": "published",
                    "decoder_width": 512,
                    "decoder_depth": 8,
                    "decoder_heads": 16,
                },
                "encoder": {"name": "vit", "size": "base", "patch_size": 16, "window": 224},
                "training": MAE_TRAINING,
                "window": 224,
            },
            for_gpu=True,
        ),
    )
    encoder: TokenEncoder

    def __init__(self, config: Any, encoder: Encoder) -> None:
        super().__init__(config, encoder)
        if not isinstance(encoder, TokenEncoder):
            raise UserError(
                f"MAE hides patches, and the encoder '{encoder.name}' has none. Choose the encoder 'vit'.", "encoder"
            )
        self.config: MAEConfig = config
        self.encoder = encoder
        if config.hiding == "cells":
            self.hidden_pixel = nn.Parameter(torch.zeros(1, encoder.bands, 1, 1))
            self.pixel_head = nn.Linear(encoder.width, encoder.bands * encoder.patch_size**2)
            self.pixel_head.apply(initialise)
            return
        width, grid = config.decoder_width, encoder.grid
        self.decoder_embed = nn.Linear(encoder.width, width)
        self.mask_token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        positions_1LE = sincos_2d(width, grid, grid, class_token=True)[None].float()
        self.decoder_pos_embed = nn.Parameter(positions_1LE, requires_grad=False)
        self.decoder_blocks = transformer_blocks(width, config.decoder_depth, config.decoder_heads)
        self.decoder_norm = nn.LayerNorm(width, eps=1e-6)
        self.decoder_pred = nn.Linear(width, encoder.bands * encoder.patch_size**2)
        for part in (self.decoder_embed, self.decoder_blocks, self.decoder_norm, self.decoder_pred):
            part.apply(initialise)

    def pictures(self, sample: Sample) -> list[Picture]:
        """Show the windows, what is left of them, and what is hidden rebuilt among what is left."""
        pixels_BCHW, size = sample.pixels_BCHW.float(), self.encoder.patch_size
        if self.config.hiding == "cells":
            hidden_BHW = self.hide_cells(pixels_BCHW)
            return _pictures(sample, hidden_BHW[:, None], self.rebuild_cells(pixels_BCHW, hidden_BHW).float())
        split, (rows, columns) = self.hide(pixels_BCHW), self.encoder.patches(pixels_BCHW)
        patches_BLP = patchify(pixels_BCHW, size)
        rebuilt_BLP = self.rebuild(self.see(pixels_BCHW, split), split, rows, columns).float()
        valid_BCHW = sample.valid_BHW[:, None].expand_as(pixels_BCHW)
        if self.config.norm_pix:
            rebuilt_BLP = restore(rebuilt_BLP, patches_BLP, patchify(valid_BCHW.float(), size), over=(2,))
        hidden_BLP = split.hidden_BL.bool()[:, :, None].expand_as(patches_BLP)
        return _pictures(sample, unpatchify(hidden_BLP, size, rows), unpatchify(rebuilt_BLP, size, rows))

    def loss(self, sample: Sample, progress: float) -> Loss:
        view = View(sample.pixels_BCHW, sample.valid_BHW)
        if self.config.views == "published":
            height, width = view.pixels_BCHW.shape[2:]
            view = resized_crop(view.pixels_BCHW, view.valid_BHW, (height, width), "bicubic")
        if self.config.hiding == "cells":
            total = self.error_of_cells(view, self.hide_cells(view.pixels_BCHW))
            return Loss(total, {"reconstruction": total.detach()})
        split = self.hide(view.pixels_BCHW)
        rebuilt_BLP = self.rebuild(self.see(view.pixels_BCHW, split), split, *self.encoder.patches(view.pixels_BCHW))
        total = self.error(rebuilt_BLP, view, split.hidden_BL)
        return Loss(total, {"reconstruction": total.detach()})

    def hide(self, pixels_BCHW: Tensor) -> Split:
        """Choose the patches that are hidden, for each window anew."""
        patches = math.prod(self.encoder.patches(pixels_BCHW))
        noise_BL = own_rows(torch.rand(len(pixels_BCHW) * ranks(), patches, device=pixels_BCHW.device))
        return split_patches(noise_BL, kept_count(patches, self.config.mask_ratio))

    def hide_cells(self, pixels_BCHW: Tensor) -> Tensor:
        """Choose the pixels that are hidden, for each window anew, hidden_BHW."""
        rows, columns = self.encoder.patches(pixels_BCHW)
        shares = self.config.mask_ratio, self.config.hidden_cells
        return draw_hidden(len(pixels_BCHW), rows, columns, self.encoder.patch_size, *shares, pixels_BCHW.device)

    def rebuild_cells(self, pixels_BCHW: Tensor, hidden_BHW: Tensor) -> Tensor:
        """Predict rebuilt_BCHW, all pixels, from all patches; hidden pixels are of one learned value for each band."""
        seen_BCHW = torch.where(hidden_BHW[:, None], self.hidden_pixel.to(pixels_BCHW.dtype), pixels_BCHW)
        tokens_BLD = self.encoder.encode(self.encoder.embed(seen_BCHW))[:, 1:]
        rows, _ = self.encoder.patches(pixels_BCHW)
        return unpatchify(self.pixel_head(tokens_BLD), self.encoder.patch_size, rows)

    def error_of_cells(self, view: View, hidden_BHW: Tensor) -> Tensor:
        """Mean absolute error over the valid pixels that are hidden."""
        rebuilt_BCHW = self.rebuild_cells(view.pixels_BCHW, hidden_BHW).float()
        error_BHW = (rebuilt_BCHW - view.pixels_BCHW.float()).abs().mean(1)
        asked_BHW = (hidden_BHW & view.valid_BHW).float()
        return mean_of_all((error_BHW * asked_BHW).sum(), asked_BHW.sum())

    def see(self, pixels_BCHW: Tensor, split: Split) -> Tensor:
        """Encode the kept patches, the class token first."""
        return self.encoder.encode(take(self.encoder.embed(pixels_BCHW), split.keep_BK))

    def rebuild(self, seen_BKD: Tensor, split: Split, rows: int, columns: int) -> Tensor:
        """Predict rebuilt_BLP, the pixels of all patches, from the kept ones."""
        tokens_BLE = fill(self.decoder_embed(seen_BKD), self.mask_token, split)
        tokens_BLE = tokens_BLE + grid_positions(self.decoder_pos_embed, self.encoder.grid, rows, columns)
        rebuilt_BLP: Tensor = self.decoder_pred(self.decoder_norm(self.decoder_blocks(tokens_BLE)))
        return rebuilt_BLP[:, 1:]

    def error(self, rebuilt_BLP: Tensor, view: View, hidden_BL: Tensor) -> Tensor:
        """Mean squared error over the valid pixels of the hidden patches.

        Beyond the paper, nodata is left out, and so is a patch of which less than half is valid; where all is valid
        this is the paper's loss.
        """
        pixels_BCHW = view.pixels_BCHW.float()
        if nothing_missing(view.valid_BHW):
            error_BLP = functional.mse_loss(rebuilt_BLP.float(), self.target(pixels_BCHW), reduction="none")
            return mean_of_all((error_BLP.sum(2) * hidden_BL).sum(), hidden_BL.sum() * error_BLP.shape[2])
        valid_BCHW = view.valid_BHW[:, None].expand_as(pixels_BCHW)
        valid_BLP = patchify(valid_BCHW.float(), self.encoder.patch_size)
        target_BLP = self.target(pixels_BCHW, valid_BLP)
        asked_BL1 = (hidden_BL * (valid_BLP.mean(2) >= 0.5))[:, :, None]
        weight_BLP = valid_BLP * asked_BL1
        error_BLP = (rebuilt_BLP.float() - target_BLP).square() * weight_BLP
        return mean_of_all(error_BLP.sum(), weight_BLP.sum())

    def target(self, pixels_BCHW: Tensor, valid_BLP: Tensor | None = None) -> Tensor:
        """Return what is rebuilt, target_BLP: the pixels, or each patch less its mean over its spread.

        Args:
            valid_BLP: 1 for pixels that count; None is all of them.
        """
        target_BLP = patchify(pixels_BCHW, self.encoder.patch_size)
        return standardise(target_BLP, valid_BLP, over=(2,)) if self.config.norm_pix else target_BLP


def _pictures(sample: Sample, hidden_BCHW: Tensor, rebuilt_BCHW: Tensor) -> list[Picture]:
    pixels_BCHW = sample.pixels_BCHW.float()
    valid_BCHW = sample.valid_BHW[:, None].expand_as(pixels_BCHW)
    filled_BCHW = torch.where(hidden_BCHW, rebuilt_BCHW, pixels_BCHW)
    return [
        Picture("Window", pixels_BCHW[:, None], valid_BCHW[:, None]),
        Picture("Seen", pixels_BCHW[:, None], (valid_BCHW & ~hidden_BCHW)[:, None]),
        Picture("Rebuilt", filled_BCHW[:, None], valid_BCHW[:, None]),
    ]
