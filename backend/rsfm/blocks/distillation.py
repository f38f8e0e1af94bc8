"""Self-distillation with prototypes: the parameters of all its methods, what follows from them, and DINO's loss.

Caron et al., 2021, "Emerging Properties in Self-Supervised Vision Transformers", arXiv:2104.14294.

Shape letters: B batch, V views, Q large views, K prototypes.
"""

from typing import Annotated, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from rsfm.blocks.band_drop import ViewsConfig
from rsfm.blocks.centring import Centre, across_views, cross_entropy, usable_pairs
from rsfm.blocks.projection import ProjectionHead
from rsfm.blocks.schedules import climb, ease
from rsfm.encoder import Encoder
from rsfm.params import Channels, Fraction, Hint, Pixels

SMALLEST = 0.05
"""Least share of a window that a small view covers."""


class DistillationConfig(ViewsConfig):
    """Base of the configs of DINO, SatDINO and PerA."""

    large_size: Pixels = Field(32, ge=4, le=2048, description="Side of the two large views.")
    small_size: Pixels = Field(16, ge=4, le=2048, description="Side of the small views.")
    small_views: int = Field(4, ge=0, le=32, description="Number of small views of a window.")
    split: Fraction = Field(
        0.4, ge=0.06, le=1, description="Share of a window that a large view covers at least, and a small one at most."
    )
    prototypes: int = Field(
        1024, ge=2, le=262144, description="Groups that views are sorted into; more than 4096 need many rasters."
    )
    hidden: Channels = Field(512, ge=4, le=8192, description="Width of the head.")
    bottleneck: Channels = Field(64, ge=2, le=2048, description="Features that are compared with the prototypes.")
    temperature: Fraction = Field(0.1, ge=0.01, le=10, description="Sharpness of the student; lower is sharper.")
    teacher_temperature: Fraction = Field(
        0.04, ge=0.005, le=10, description="Sharpness of the teacher at the start; too soft, and all views become one."
    )
    teacher_temperature_end: Fraction = Field(0.07, ge=0.005, le=10, description="Sharpness of the teacher later on.")
    temperature_share: Fraction = Field(
        0.1, ge=0, le=1, description="Share of the training in which the teacher's sharpness changes."
    )
    temperature_steps: Channels = Field(
        0, ge=0, le=100000, description="Equal steps in which it changes, such as epochs; 0 changes it smoothly."
    )
    momentum: Annotated[float, Hint(advanced=True)] = Field(
        0.996, ge=0, le=1, description="Share of its weights the teacher keeps at a step; rises to all of them."
    )
    centre_momentum: Fraction = Field(0.9, ge=0, le=1, description="Share of its centre the teacher keeps at a step.")
    drop_path: Fraction = Field(0.1, ge=0, le=0.9, description="Share of the student's branches left out at random.")


class FrozenPrototypesConfig(DistillationConfig):
    """Base of the configs of DINO and SatDINO."""

    norm_last_layer: bool = Field(True, description="Keep all prototypes of length 1; steadier.")
    freeze: Annotated[float, Hint(advanced=True)] = Field(
        0.01, ge=0, le=1, description="Share of the training in which the prototypes stay as they are."
    )


class Distilled(NamedTuple):
    """What a comparison of views found; terms_QV is 0 where a view meets itself."""

    total: Tensor
    terms_QV: Tensor
    probabilities_QBK: Tensor


def dino_loss(
    student_VBK: Tensor,
    teacher_QBK: Tensor,
    usable_VB: Tensor,
    centre: Centre,
    config: DistillationConfig,
    progress: float,
) -> Distilled:
    """Compare the student's logits of all views with the teacher's of the first ones; then move the centre.

    Section 3.1 and algorithm 1 of the paper; in float32 whatever the logits are.

    Args:
        usable_VB: views that count.
    """
    views = len(teacher_QBK)
    with torch.autocast(student_VBK.device.type, enabled=False):
        probabilities_QBK = centre.probabilities(teacher_QBK, teacher_temperature(config, progress))
        pairs_QVB = usable_pairs(usable_VB[:views], usable_VB)
        terms_QV = cross_entropy(probabilities_QBK, student_VBK, config.temperature, pairs_QVB)
        centre.update(teacher_QBK.flatten(0, 1), usable_VB[:views].flatten(), config.centre_momentum)
        return Distilled(across_views(terms_QV, pairs_QVB), terms_QV, probabilities_QBK)


def teacher_temperature(config: DistillationConfig, progress: float) -> float:
    """Return the teacher's temperature; it never takes longer than the training, however short that is."""
    first, last = config.teacher_temperature, config.teacher_temperature_end
    return climb(progress, config.temperature_share, first, last, config.temperature_steps)


def teacher_momentum(config: DistillationConfig, progress: float) -> float:
    """Return the share of its weights that the teacher keeps at a step."""
    return ease(progress, config.momentum, 1)


def view_logits(head: ProjectionHead, features_VBD: Tensor, frozen: bool = False) -> Tensor:
    """Return logits_VBK of all views in one pass; no gradient reaches frozen prototypes."""
    logits_NK: Tensor = head(features_VBD.flatten(0, 1), frozen)
    return logits_NK.reshape(*features_VBD.shape[:2], -1)


def make_head(config: DistillationConfig, encoder: Encoder, scaled: bool) -> ProjectionHead:
    """Make the head of a student, or of its teacher."""
    return ProjectionHead(encoder.width, config.hidden, config.bottleneck, config.prototypes, scaled)
