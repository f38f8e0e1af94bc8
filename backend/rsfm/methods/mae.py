"""Masked autoencoder: rebuild the hidden patches of a window from the visible ones.

He et al., 2022, "Masked Autoencoders Are Scalable Vision Learners", arXiv:2111.06377.

Shape letters: B batch, C bands, H rows, W columns, L patches, K kept, D encoder width, E decoder width,
P values of a patch (C * patch_size ** 2).
"""

from typing import Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from rsfm.blocks.masking import Split, kept_count, patchify, split_patches, take
from rsfm.blocks.positions import grid_positions, sincos_2d
from rsfm.blocks.transformer import TokenEncoder, initialise, transformer_blocks
from rsfm.blocks.view import View
from rsfm.blocks.views import resized_crop
from rsfm.encoder import Encoder
from rsfm.errors import UserError
from rsfm.job import Preset
from rsfm.method import Loss, Method, MethodConfig, Sample
from rsfm.params import Channels, Fraction


class MAEConfig(MethodConfig):
    """Hides most of each window and learns to rebuild it. Made for a GPU, or for hours on a CPU."""

    name: Literal["mae"] = "mae"
    mask_ratio: Fraction = Field(0.75, ge=0.01, le=0.99, description="Share of patches hidden from the encoder.")
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
    decoder_depth: Channels = Field(2, ge=1, le=16, description="Number of decoder blocks.")
    decoder_heads: Channels = Field(3, ge=1, le=32, description="Attention heads of a decoder block.")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.decoder_width % self.decoder_heads:
            raise ValueError(
                f"Decoder width ({self.decoder_width}) must be a multiple of decoder heads ({self.decoder_heads})."
            )
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
                "encoder": {
                    "name": "vit",
                    "size": "free",
                    "width": 192,
                    "depth": 4,
                    "heads": 3,
                    "patch_size": 4,
                    "window": 32,
                },
                "training": {
                    "minutes": 3,
                    "batch_size": 64,
                    "learning_rate": 1e-3,
                    "weight_decay": 0.05,
                    "optimizer": "adamw",
                    "beta2": 0.95,
                    "decay_all": False,
                    "warmup": 0.05,
                    "schedule": "step",
                    "clip_norm": 1,
                },
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
                "training": {
                    "minutes": 0,
                    "epochs": 800,
                    "batch_size": 256,
                    "learning_rate": 1.5e-4,
                    "weight_decay": 0.05,
                    "optimizer": "adamw",
                    "beta2": 0.95,
                    "decay_all": False,
                    "warmup": 0.05,
                    "schedule": "step",
                    "clip_norm": 0,
                },
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

    def loss(self, sample: Sample, progress: float) -> Loss:
        view = View(sample.pixels_BCHW, sample.valid_BHW)
        if self.config.views == "published":
            height, width = view.pixels_BCHW.shape[2:]
            view = resized_crop(view.pixels_BCHW, view.valid_BHW, (height, width), "bicubic")
        split = self.hide(view.pixels_BCHW)
        rebuilt_BLP = self.rebuild(self.see(view.pixels_BCHW, split), split, self._rows(view.pixels_BCHW))
        total = self.error(rebuilt_BLP, view, split.hidden_BL)
        return Loss(total, {"reconstruction": total.item()})

    def hide(self, pixels_BCHW: Tensor) -> Split:
        """Choose the patches that are hidden, for each window anew."""
        count, _, height, width = pixels_BCHW.shape
        patches = (height // self.encoder.patch_size) * (width // self.encoder.patch_size)
        kept = kept_count(patches, self.config.mask_ratio)
        if kept == 0:
            raise UserError(
                f"All {patches} patches of a window are hidden, which leaves nothing to learn from. "
                "Make 'Window' larger, or 'Mask ratio' smaller.",
                "window",
            )
        return split_patches(torch.rand(count, patches, device=pixels_BCHW.device), kept)

    def see(self, pixels_BCHW: Tensor, split: Split) -> Tensor:
        """Encode the kept patches, the class token first."""
        return self.encoder.encode(take(self.encoder.embed(pixels_BCHW), split.keep_BK))

    def rebuild(self, seen_BKD: Tensor, split: Split, rows: int) -> Tensor:
        """Predict rebuilt_BLP, the pixels of all patches, from the kept ones; `rows` of patches."""
        seen_BKE = self.decoder_embed(seen_BKD)
        hidden = split.restore_BL.shape[1] - split.keep_BK.shape[1]
        mask_BME = self.mask_token.to(seen_BKE.dtype).expand(len(seen_BKE), hidden, -1)
        patches_BLE = take(torch.cat([seen_BKE[:, 1:], mask_BME], dim=1), split.restore_BL)
        tokens_BLE = torch.cat([seen_BKE[:, :1], patches_BLE], dim=1)
        columns = patches_BLE.shape[1] // rows
        tokens_BLE = tokens_BLE + grid_positions(self.decoder_pos_embed, self.encoder.grid, rows, columns)
        rebuilt_BLP: Tensor = self.decoder_pred(self.decoder_norm(self.decoder_blocks(tokens_BLE)))
        return rebuilt_BLP[:, 1:]

    def error(self, rebuilt_BLP: Tensor, view: View, hidden_BL: Tensor) -> Tensor:
        """Mean squared error over the valid pixels of the hidden patches.

        Beyond the paper, nodata is left out, and so is a patch of which less than half is valid; where all is valid
        this is the paper's loss.
        """
        valid_BCHW = view.valid_BHW[:, None].expand_as(view.pixels_BCHW)
        valid_BLP = patchify(valid_BCHW.float(), self.encoder.patch_size)
        target_BLP = self.target(view.pixels_BCHW.float(), valid_BLP)
        asked_BL1 = (hidden_BL * (valid_BLP.mean(2) >= 0.5))[:, :, None]
        weight_BLP = valid_BLP * asked_BL1
        error_BLP = (rebuilt_BLP.float() - target_BLP).square() * weight_BLP
        return error_BLP.sum() / weight_BLP.sum().clamp(min=1)

    def target(self, pixels_BCHW: Tensor, valid_BLP: Tensor) -> Tensor:
        """Return what is rebuilt, target_BLP: the pixels, or each patch less its mean over its spread."""
        target_BLP = patchify(pixels_BCHW, self.encoder.patch_size)
        if not self.config.norm_pix:
            return target_BLP
        count_BL1 = valid_BLP.sum(2, keepdim=True)
        mean_BL1 = (target_BLP * valid_BLP).sum(2, keepdim=True) / count_BL1.clamp(min=1)
        centred_BLP = target_BLP - mean_BL1
        variance_BL1 = (centred_BLP.square() * valid_BLP).sum(2, keepdim=True) / (count_BL1 - 1).clamp(min=1)
        return centred_BLP / (variance_BL1 + 1e-6).sqrt()

    def _rows(self, pixels_BCHW: Tensor) -> int:
        return pixels_BCHW.shape[2] // self.encoder.patch_size
