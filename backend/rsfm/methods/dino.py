"""DINO: a student learns to sort small views of a place into the same group as its slow average sorts large ones.

Caron et al., 2021, "Emerging Properties in Self-Supervised Vision Transformers", arXiv:2104.14294.

Shape letters: B batch, C bands, H rows, W columns, V views, Q large views, K prototypes.
"""

from typing import Any, Literal

import torch
from torch import Tensor

from rsfm.blocks.band_drop import ViewsMethod
from rsfm.blocks.centring import Centre
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
from rsfm.blocks.multicrop import draw_views, in_passes, usable
from rsfm.blocks.recipes import (
    DINO_EVENING,
    DINO_EVENING_HEAD,
    DINO_QUICK,
    DINO_QUICK_HEAD,
    DINO_TRAINING,
    EVENING_LEARNED_VIT,
    SMALL_CONV,
)
from rsfm.blocks.teacher import make_teacher, move_average
from rsfm.blocks.transformer import TokenEncoder
from rsfm.blocks.view import View
from rsfm.encoder import Encoder
from rsfm.job import Preset
from rsfm.method import Loss, Sample

ALONE = 0.14
"""Least share of a window that a large view covers when there are no small ones."""


class DINOConfig(FrozenPrototypesConfig):
    """Learns to sort views of one place alike, and so to tell places apart. Pays on a CPU, if less than MoCo v2."""

    name: Literal["dino"] = "dino"


class DINO(ViewsMethod):
    name = "dino"
    title = "DINO"
    Config = DINOConfig
    averages = ("centre.center",)
    presets = (
        Preset(
            "dino_quick",
            "DINO: quick, minutes on a CPU",
            "A small variant, not the paper's model. Minutes on a CPU pay; MoCo v2 learns more in the same time.",
            {
                "method": {
                    "name": "dino",
                    **DINO_QUICK_HEAD,
                    "small_views": 2,
                    "split": 0.4,
                    "norm_last_layer": True,
                    "freeze": 0.02,
                },
                "encoder": SMALL_CONV,
                "training": {**DINO_QUICK, "learning_rate": 1e-3},
                "window": 40,
            },
        ),
        Preset(
            "dino_gpu",
            "DINO: evening on a GPU, ViT-S/8",
            "Four hours on one GPU: the authors' recipe, small windows, 4,096 prototypes. Its worth is not measured.",
            {
                "method": {
                    "name": "dino",
                    **DINO_EVENING_HEAD,
                    "small_views": 8,
                    "split": 0.4,
                    "norm_last_layer": False,
                    "freeze": 0.01,
                },
                "encoder": EVENING_LEARNED_VIT,
                "training": DINO_EVENING,
                "window": 144,
            },
            for_gpu=True,
        ),
        Preset(
            "dino_official",
            "DINO: as published, ViT-S/16, days on a GPU",
            "The authors' recipe of 300 epochs, the learning rate scaled to 1024 windows a step: days on several GPUs.",
            {
                "method": {
                    "name": "dino",
                    "large_size": 224,
                    "small_size": 96,
                    "small_views": 8,
                    "split": 0.4,
                    "prototypes": 65536,
                    "hidden": 2048,
                    "bottleneck": 256,
                    "temperature": 0.1,
                    "teacher_temperature": 0.04,
                    "teacher_temperature_end": 0.07,
                    "temperature_share": 0.1,
                    "temperature_steps": 30,
                    "momentum": 0.996,
                    "centre_momentum": 0.9,
                    "norm_last_layer": False,
                    "freeze": 1 / 300,
                    "drop_path": 0.1,
                },
                "encoder": {
                    "name": "vit_learned",
                    "size": "small",
                    "patch_size": 16,
                    "window": 224,
                    "pooling": "class",
                    "gsd_token": False,
                },
                "training": DINO_TRAINING,
                "window": 256,
            },
            for_gpu=True,
        ),
    )

    def __init__(self, config: Any, encoder: Encoder) -> None:
        super().__init__(config, encoder)
        self.config: DINOConfig = config
        self.encoder = encoder
        self.head = make_head(config, encoder, scaled=not config.norm_last_layer)
        self.teacher, self.teacher_head = make_teacher(encoder), make_teacher(self.head)
        self.centre = Centre(config.prototypes)
        if isinstance(encoder, TokenEncoder):
            drop_by_sample(encoder.blocks, config.drop_path)

    def loss(self, sample: Sample, progress: float) -> Loss:
        views = self.draw(View(sample.pixels_BCHW, sample.valid_BHW))
        found = self.compare([view.pixels_BCHW for view in views], usable(views), progress)
        sharpness = found.probabilities_QBK.amax(2).mean()
        return Loss(found.total, {"distillation": found.total.detach(), "sharpness": sharpness})

    def after_step(self, progress: float) -> None:
        momentum = teacher_momentum(self.config, progress)
        move_average(self.teacher, self.encoder, momentum)
        move_average(self.teacher_head, self.head, momentum)

    def draw(self, window: View) -> list[View]:
        """Draw two large views and the small ones."""
        config = self.config
        least = config.split if config.small_views else ALONE
        areas = [(least, 1.0)] * 2 + [(SMALLEST, config.split)] * config.small_views
        drawn = draw_views(window, (config.large_size, config.small_size), areas, drop=self.drop)
        return [one.view for one in drawn]

    def compare(self, views: list[Tensor], usable_VB: Tensor, progress: float) -> Distilled:
        """Compare the student's groups of all views with the teacher's of the first two, then move the centre.

        The prototypes get no gradient at all while they are frozen: with a gradient of zero they would still decay.
        """
        frozen = progress < self.config.freeze
        student_VBK = view_logits(self.head, in_passes(self.encoder.embedding, views), frozen)
        with torch.no_grad():
            teacher_QBK = view_logits(self.teacher_head, in_passes(self.teacher.embedding, views[:2]))
        return dino_loss(student_VBK, teacher_QBK, usable_VB, self.centre, self.config, progress)
