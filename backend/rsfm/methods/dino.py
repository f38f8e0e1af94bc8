"""DINO: a student learns to sort small views of a place into the same group as its slow average sorts large ones.

Caron et al., 2021, "Emerging Properties in Self-Supervised Vision Transformers", arXiv:2104.14294.

Shape letters: B batch, C bands, H rows, W columns, V views, Q large views, N rows of a pass, D encoder width,
K prototypes.
"""

from typing import Annotated, Any, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from rsfm.blocks.centring import Centre, across_views, cross_entropy, usable_pairs
from rsfm.blocks.distillation import DistillationConfig, make_head, teacher_momentum, teacher_temperature
from rsfm.blocks.drop_path import drop_by_sample
from rsfm.blocks.multicrop import draw_views, in_passes, usable
from rsfm.blocks.projection import ProjectionHead
from rsfm.blocks.teacher import make_teacher, move_average
from rsfm.blocks.transformer import TokenEncoder
from rsfm.blocks.view import View
from rsfm.encoder import Encoder
from rsfm.job import Preset
from rsfm.method import Loss, Method, Sample
from rsfm.params import Hint

SMALLEST = 0.05
"""Least share of a window that a small view covers."""
ALONE = 0.14
"""Least share of a window that a large view covers when there are no small ones."""


class DINOConfig(DistillationConfig):
    """Learns to sort views of one place alike, and so to tell places apart. Made for a GPU, or for hours on a CPU."""

    name: Literal["dino"] = "dino"
    norm_last_layer: bool = Field(True, description="Keep all prototypes of length 1; steadier.")
    freeze: Annotated[float, Hint(advanced=True)] = Field(
        0.01, ge=0, le=1, description="Share of the training in which the prototypes stay as they are."
    )


class Compared(NamedTuple):
    """What a comparison of views found; terms_QV is 0 where a view meets itself."""

    total: Tensor
    terms_QV: Tensor
    probabilities_QBK: Tensor


class DINO(Method):
    name = "dino"
    title = "DINO"
    Config = DINOConfig
    presets = (
        Preset(
            "dino_quick",
            "Small DINO, for a CPU",
            "A small variant, not the paper's model; on few windows MoCo v2 learns more in the same time.",
            {
                "method": {
                    "name": "dino",
                    "large_size": 32,
                    "small_size": 16,
                    "small_views": 2,
                    "split": 0.4,
                    "prototypes": 1024,
                    "hidden": 512,
                    "bottleneck": 64,
                    "teacher_temperature": 0.04,
                    "teacher_temperature_end": 0.04,
                    "temperature_share": 0,
                    "momentum": 0.99,
                    "norm_last_layer": True,
                    "freeze": 0.02,
                    "drop_path": 0,
                },
                "encoder": {
                    "name": "vit_learned",
                    "size": "free",
                    "width": 192,
                    "depth": 4,
                    "heads": 3,
                    "patch_size": 4,
                    "window": 32,
                    "pooling": "class",
                    "gsd_token": False,
                },
                "training": {
                    "minutes": 10,
                    "batch_size": 64,
                    "learning_rate": 5e-4,
                    "final_rate": 0.01,
                    "weight_decay": 0.04,
                    "decay_growth": 5,
                    "optimizer": "adamw",
                    "beta2": 0.999,
                    "decay_all": False,
                    "warmup": 0.1,
                    "schedule": "step",
                    "clip_norm": 3,
                    "clip_each": True,
                },
                "window": 40,
            },
        ),
        Preset(
            "dino_official",
            "DINO as published, ViT-S/16, for a GPU",
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
                "training": {
                    "minutes": 0,
                    "epochs": 300,
                    "batch_size": 1024,
                    "learning_rate": 2e-3,
                    "final_rate": 5e-4,
                    "weight_decay": 0.04,
                    "decay_growth": 10,
                    "optimizer": "adamw",
                    "beta2": 0.999,
                    "decay_all": False,
                    "warmup": 10 / 300,
                    "schedule": "step",
                    "clip_norm": 3,
                    "clip_each": True,
                },
                "window": 256,
            },
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
        sharpness = found.probabilities_QBK.amax(2).mean().item()
        return Loss(found.total, {"distillation": found.total.item(), "sharpness": sharpness})

    def after_step(self, progress: float) -> None:
        momentum = teacher_momentum(self.config, progress)
        move_average(self.teacher, self.encoder, momentum)
        move_average(self.teacher_head, self.head, momentum)

    def draw(self, window: View) -> list[View]:
        """Draw two large views and the small ones."""
        config = self.config
        least = config.split if config.small_views else ALONE
        areas = [(least, 1.0)] * 2 + [(SMALLEST, config.split)] * config.small_views
        return [drawn.view for drawn in draw_views(window, (config.large_size, config.small_size), areas)]

    def compare(self, views: list[Tensor], usable_VB: Tensor, progress: float) -> Compared:
        """Compare the student's groups of all views with the teacher's of the first two, then move the centre.

        The prototypes get no gradient at all while they are frozen: with a gradient of zero they would still decay.
        """
        student_VBK = self._sort(self.encoder, self.head, views, progress < self.config.freeze)
        with torch.no_grad():
            teacher_QBK = self._sort(self.teacher, self.teacher_head, views[:2])
        with torch.autocast(student_VBK.device.type, enabled=False):
            probabilities_QBK = self.centre.probabilities(teacher_QBK, teacher_temperature(self.config, progress))
            pairs_QVB = usable_pairs(usable_VB[:2], usable_VB)
            terms_QV = cross_entropy(probabilities_QBK, student_VBK, self.config.temperature, pairs_QVB)
            total = across_views(terms_QV, pairs_QVB)
            self.centre.update(teacher_QBK.flatten(0, 1), usable_VB[:2].flatten(), self.config.centre_momentum)
        return Compared(total, terms_QV, probabilities_QBK)

    def _sort(self, encoder: Encoder, head: ProjectionHead, views: list[Tensor], frozen: bool = False) -> Tensor:
        """Return logits_VBK of views; those of one size pass the encoder together."""
        features_VBD = in_passes(encoder.embedding, views)
        logits_NK: Tensor = head(features_VBD.flatten(0, 1), frozen)
        return logits_NK.reshape(*features_VBD.shape[:2], -1)
