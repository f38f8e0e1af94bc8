"""Masked autoencoder: rebuild the hidden patches of a window from the visible ones.

He et al., 2022, "Masked Autoencoders Are Scalable Vision Learners", arXiv:2111.06377.

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
from rsfm.blocks.positions import grid_positions, sincos_2d
from rsfm.blocks.ranks import mean_of_all, own_rows, ranks
from rsfm.blocks.recipes import MAE_QUICK, MAE_TRAINING, SMALL_VIT
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
from rsfm.params import Channels


class MAEConfig(MethodConfig):
    """Hides most of each window and learns to rebuild it. Made for a GPU, or for hours on a CPU."""

    name: Literal["mae"] = "mae"
    mask_ratio: MaskRatio = 0.75
    norm_pix: bool = Field(True, description="Rebuild each patch relative to its own mean and spread.")
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
            "Small MAE, for a CPU",
            "A small variant, not the paper's model; on few windows MoCo v2 learns more in the same time.",
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
            "mae_official",
            "MAE as published, ViT-B/16, for a GPU",
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
        """Show the windows, what is left of them, and the hidden patches rebuilt among those that are left."""
        pixels_BCHW, size = sample.pixels_BCHW.float(), self.encoder.patch_size
        split, (rows, columns) = self.hide(pixels_BCHW), self.encoder.patches(pixels_BCHW)
        patches_BLP = patchify(pixels_BCHW, size)
        rebuilt_BLP = self.rebuild(self.see(pixels_BCHW, split), split, rows, columns).float()
        valid_BCHW = sample.valid_BHW[:, None].expand_as(pixels_BCHW)
        if self.config.norm_pix:
            rebuilt_BLP = restore(rebuilt_BLP, patches_BLP, patchify(valid_BCHW.float(), size), over=(2,))
        hidden_BLP = split.hidden_BL.bool()[:, :, None].expand_as(patches_BLP)
        hidden_BCHW = unpatchify(hidden_BLP, size, rows)
        filled_BCHW = torch.where(hidden_BCHW, unpatchify(rebuilt_BLP, size, rows), pixels_BCHW)
        return [
            Picture("Window", pixels_BCHW[:, None], valid_BCHW[:, None]),
            Picture("Seen", pixels_BCHW[:, None], (valid_BCHW & ~hidden_BCHW)[:, None]),
            Picture("Rebuilt", filled_BCHW[:, None], valid_BCHW[:, None]),
        ]

    def loss(self, sample: Sample, progress: float) -> Loss:
        view = View(sample.pixels_BCHW, sample.valid_BHW)
        if self.config.views == "published":
            height, width = view.pixels_BCHW.shape[2:]
            view = resized_crop(view.pixels_BCHW, view.valid_BHW, (height, width), "bicubic")
        split = self.hide(view.pixels_BCHW)
        rebuilt_BLP = self.rebuild(self.see(view.pixels_BCHW, split), split, *self.encoder.patches(view.pixels_BCHW))
        total = self.error(rebuilt_BLP, view, split.hidden_BL)
        return Loss(total, {"reconstruction": total.detach()})

    def hide(self, pixels_BCHW: Tensor) -> Split:
        """Choose the patches that are hidden, for each window anew."""
        patches = math.prod(self.encoder.patches(pixels_BCHW))
        noise_BL = own_rows(torch.rand(len(pixels_BCHW) * ranks(), patches, device=pixels_BCHW.device))
        return split_patches(noise_BL, kept_count(patches, self.config.mask_ratio))

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
