"""SatDINO: DINO whose small views cover every scale alike, and which tells the size of a pixel from what it sees.

Straka et al., 2025, "SatDINO: A Deep Dive into Self-Supervised Pretraining for Remote Sensing"; on top of Caron et al.,
2021, arXiv:2104.14294.

Shape letters: B batch, C bands, H rows, W columns, V views, Q large views, D encoder width,
K prototypes.
"""

from typing import Any, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from rsfm.blocks.band_drop import ViewsMethod
from rsfm.blocks.centring import Centre
from rsfm.blocks.crops import pixel_size
from rsfm.blocks.distillation import (
    SMALLEST,
    Distilled,
    FrozenPrototypesConfig,
    dino_loss,
    make_head,
    teacher_momentum,
    view_logits,
)
from rsfm.blocks.drop_path import drop_by_sample
from rsfm.blocks.learned_vit import LearnedViT
from rsfm.blocks.multicrop import DrawnView, draw_views, equal_parts, in_passes, usable
from rsfm.blocks.ranks import mean_of_all
from rsfm.blocks.recipes import (
    DINO_EVENING,
    DINO_EVENING_HEAD,
    DINO_QUICK,
    DINO_QUICK_HEAD,
    DINO_TRAINING,
    EVENING_LEARNED_VIT,
    SMALL_VIT,
)
from rsfm.blocks.teacher import make_teacher, move_average
from rsfm.blocks.view import View
from rsfm.encoder import Encoder
from rsfm.errors import UserError
from rsfm.job import Preset
from rsfm.method import Loss, Sample
from rsfm.params import Fraction

UNKNOWN = (
    "The size of a pixel is not known, so that SatDINO learns as DINO does. "
    "Give the rasters a coordinate reference system, or choose DINO under 'Method'."
)


class SatDINOConfig(FrozenPrototypesConfig):
    """Learns as DINO does, and to tell how large a pixel is. For rasters of several resolutions, and for a GPU."""

    name: Literal["satdino"] = "satdino"
    gsd_weight: Fraction = Field(0.1, ge=0, le=100, description="Weight of the error of the pixel size in the loss.")
    gsd_target: Literal["log", "metres"] = Field(
        "log",
        description="How the error of the pixel size is measured.",
        json_schema_extra={
            "choices": ["log", "metres"],
            "titles": ["Relative: alike for fine and coarse pixels", "As published: in metres"],
        },
    )
    train_gsd_head: bool = Field(
        True, description="Train the layer that tells the pixel size; the authors' code leaves it as it was drawn."
    )


class Compared(NamedTuple):
    """What a comparison of views found: DINO's part, and the error of the pixel size."""

    distilled: Distilled
    gsd_error: Tensor


class SatDINO(ViewsMethod):
    name = "satdino"
    title = "SatDINO"
    Config = SatDINOConfig
    averages = ("centre.center",)
    presets = (
        Preset(
            "satdino_quick",
            "SatDINO: quick, minutes on a CPU",
            "For rasters of several resolutions; not the paper's model. 15 minutes on a CPU told no more than texture.",
            {
                "method": {
                    "name": "satdino",
                    **DINO_QUICK_HEAD,
                    "small_views": 4,
                    "split": 0.25,
                    "gsd_weight": 0.1,
                    "gsd_target": "log",
                    "train_gsd_head": True,
                    "norm_last_layer": True,
                    "freeze": 0.02,
                },
                "encoder": {"name": "vit_learned", **SMALL_VIT, "pooling": "class", "gsd_token": True},
                "training": DINO_QUICK,
                "window": 48,
            },
        ),
        Preset(
            "satdino_gpu",
            "SatDINO: evening on a GPU, ViT-S/8",
            "Four hours on one GPU: the authors' recipe, small windows, 4,096 prototypes. Its worth is not measured.",
            {
                "method": {
                    "name": "satdino",
                    **DINO_EVENING_HEAD,
                    "small_views": 10,
                    "split": 0.25,
                    "gsd_weight": 0.1,
                    "gsd_target": "metres",
                    "train_gsd_head": True,
                    "norm_last_layer": False,
                    "freeze": 0.01,
                },
                "encoder": {**EVENING_LEARNED_VIT, "gsd_token": True},
                "training": {**DINO_EVENING, "learning_rate": 1e-3, "final_rate": 0.02, "clip_norm": 0},
                "window": 144,
            },
            for_gpu=True,
        ),
        Preset(
            "satdino_official",
            "SatDINO: as published, ViT-S/16, days on a GPU",
            "The authors' recipe of 200 epochs, the learning rate scaled to 512 windows a step: days on several GPUs.",
            {
                "method": {
                    "name": "satdino",
                    "large_size": 224,
                    "small_size": 96,
                    "small_views": 10,
                    "split": 0.25,
                    "prototypes": 65536,
                    "hidden": 2048,
                    "bottleneck": 256,
                    "temperature": 0.1,
                    "teacher_temperature": 0.04,
                    "teacher_temperature_end": 0.07,
                    "temperature_share": 0.15,
                    "temperature_steps": 30,
                    "momentum": 0.996,
                    "centre_momentum": 0.9,
                    "gsd_weight": 0.1,
                    "gsd_target": "metres",
                    "train_gsd_head": True,
                    "norm_last_layer": False,
                    "freeze": 0.005,
                    "drop_path": 0.1,
                },
                "encoder": {
                    "name": "vit_learned",
                    "size": "small",
                    "patch_size": 16,
                    "window": 224,
                    "pooling": "class",
                    "gsd_token": True,
                },
                "training": {
                    **DINO_TRAINING,
                    "epochs": 200,
                    "batch_size": 512,
                    "final_rate": 0.01,
                    "warmup": 0.05,
                    "clip_norm": 0,
                },
                "window": 256,
            },
            for_gpu=True,
        ),
    )
    encoder: LearnedViT

    def __init__(self, config: Any, encoder: Encoder) -> None:
        super().__init__(config, encoder)
        if not isinstance(encoder, LearnedViT) or not encoder.last_tokens:
            raise UserError(
                f"SatDINO tells the size of a pixel, and the encoder '{encoder.name}' has no token for it. "
                "Choose the encoder 'vit_learned' and tick 'Gsd token'.",
                "encoder.gsd_token",
            )
        self.config: SatDINOConfig = config
        self.encoder = encoder
        self.head = make_head(config, encoder, scaled=not config.norm_last_layer)
        self.gsd_head = nn.Linear(encoder.width, 1).requires_grad_(config.train_gsd_head)
        self.teacher, self.teacher_head = make_teacher(encoder), make_teacher(self.head)
        self.centre = Centre(config.prototypes)
        drop_by_sample(encoder.blocks, config.drop_path)

    def loss(self, sample: Sample, progress: float) -> Loss:
        drawn = self.draw(View(sample.pixels_BCHW, sample.valid_BHW))
        views = [one.view for one in drawn]
        gsd_VB = torch.stack([pixel_size(sample.gsd_B, one.crop, one.size) for one in drawn])
        found = self.compare([view.pixels_BCHW for view in views], gsd_VB, usable(views), progress)
        parts = {"distillation": found.distilled.total.detach(), "gsd": found.gsd_error.detach()}
        return Loss(self.weigh(found), parts, () if known(sample.gsd_B).any() else (UNKNOWN,))

    def after_step(self, progress: float) -> None:
        momentum = teacher_momentum(self.config, progress)
        move_average(self.teacher, self.encoder, momentum)
        move_average(self.teacher_head, self.head, momentum)

    def draw(self, window: View) -> list[DrawnView]:
        """Draw two large views, and small ones each of its own share of the window, always in the same order."""
        config = self.config
        areas = [(config.split, 1.0)] * 2 + equal_parts(SMALLEST, config.split, config.small_views)
        return draw_views(window, (config.large_size, config.small_size), areas, drop=self.drop)

    def compare(self, views: list[Tensor], gsd_VB: Tensor, usable_VB: Tensor, progress: float) -> Compared:
        """Compare groups of views as DINO does, and the size of a pixel that they tell; then move the centre.

        Args:
            gsd_VB: metres per pixel of each view; what is not known is NaN or not above 0, and is left out.
        """
        tokens_VB2D = in_passes(self.see, views)
        student_VBK = view_logits(self.head, tokens_VB2D[:, :, 0], progress < self.config.freeze)
        with torch.no_grad():
            teacher_QBK = view_logits(self.teacher_head, in_passes(self.teacher.embedding, views[:2]))
        distilled = dino_loss(student_VBK, teacher_QBK, usable_VB, self.centre, self.config, progress)
        with torch.autocast(student_VBK.device.type, enabled=False):
            gsd_error = self.gsd_error(tokens_VB2D[:, :, 1].float(), gsd_VB, usable_VB)
        return Compared(distilled, gsd_error)

    def weigh(self, found: Compared) -> Tensor:
        """Return the loss: DINO's, and the error of the pixel size by its weight."""
        return found.distilled.total + self.config.gsd_weight * found.gsd_error

    def see(self, pixels_BCHW: Tensor) -> Tensor:
        """Return the encoded class token and the token of the pixel size, tokens_B2D."""
        encoded_BTD = self.encoder.encode_all(self.encoder.embed(pixels_BCHW))
        return torch.stack([encoded_BTD[:, 0], encoded_BTD[:, -1]], dim=1)

    def gsd_error(self, tokens_VBD: Tensor, gsd_VB: Tensor, usable_VB: Tensor) -> Tensor:
        """Mean squared error of the size of a pixel, or of its logarithm, over the views of known size."""
        told_VB: Tensor = self.gsd_head(tokens_VBD)[..., 0]
        known_VB = usable_VB & known(gsd_VB)
        target_VB = torch.where(known_VB, gsd_VB, 1)
        if self.config.gsd_target == "log":
            target_VB = target_VB.log()
        return mean_of_all(((told_VB - target_VB).square() * known_VB).sum(), known_VB.sum())


def known(gsd: Tensor) -> Tensor:
    """Tell which pixel sizes can be learned from."""
    return torch.isfinite(gsd) & (gsd > 0)
