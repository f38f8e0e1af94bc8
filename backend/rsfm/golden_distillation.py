"""What the comparisons of DINO and SatDINO share, and PerA in part: settings, names, configs, schedules.

Shape letters: B batch, V views, Q large views, K prototypes.
"""

import re
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from rsfm.blocks.distillation import DistillationConfig, teacher_momentum
from rsfm.blocks.schedules import climb, warmup_cosine_inclusive
from rsfm.encoders.vit_learned import ViTLearnedConfig
from rsfm.golden import Case, Check, compare
from rsfm.golden_step import SCHEDULE, VALUE, renaming
from rsfm.training.config import TrainingConfig
from rsfm.training.optimizer import weight_decay

FIELDS = (
    "dim depth heads patch global_px local_px batch locals prototypes hidden bottleneck fixed_norm epoch warmup epochs "
    "freeze"
)
FLOATS = "first_temp last_temp clip lr wd momentum temperature centre_momentum"

our_name = renaming(
    {
        "student.backbone.": "encoder.",
        "student.head.": "head.",
        "teacher.backbone.": "teacher.",
        "teacher.head.": "teacher_head.",
        "dino_loss.": "centre.",
        "backbone.": "encoder.",
        "gsd_head.gsd_head.": "gsd_head.",
    }
)


def encoder_config(config: dict[str, Any], gsd_token: bool = False) -> ViTLearnedConfig:
    """Return the config of a case's encoder."""
    return ViTLearnedConfig(
        patch_size=config["patch"],
        window=config["global_px"],
        width=config["dim"],
        depth=config["depth"],
        heads=config["heads"],
        gsd_token=gsd_token,
    )


def head_config(config: dict[str, Any]) -> dict[str, Any]:
    """Return what the configs of all three methods have in common."""
    names = ("prototypes", "hidden", "bottleneck", "temperature", "momentum", "centre_momentum")
    return {name: config[name] for name in names} | {"drop_path": 0}


def method_config(config: dict[str, Any], freeze: bool) -> dict[str, Any]:
    """Return what the configs of DINO and SatDINO have in common; shares of the training are the case's epochs."""
    return head_config(config) | {
        "teacher_temperature": config["first_temp"],
        "teacher_temperature_end": config["last_temp"],
        "temperature_share": config["warmup"] / config["epochs"],
        "temperature_steps": config["warmup"],
        "norm_last_layer": bool(config["fixed_norm"]),
        "freeze": config["freeze"] / config["epochs"] if freeze else 0,
    }


def views_of(case: Case, config: dict[str, Any]) -> list[Tensor]:
    """Return the case's views, the two large ones first."""
    return [case.tensor(f"crop_{index}") for index in range(2 + config["locals"])]


def all_usable(views: list[Tensor]) -> Tensor:
    """Return usable_VB, all of them."""
    return torch.ones(len(views), len(views[0]), dtype=torch.bool)


def check_terms(case: Case, terms_QV: Tensor) -> Iterator[Check]:
    """Compare the terms of pairs of different views."""
    other_QV = ~torch.eye(*terms_QV.shape, dtype=torch.bool)
    theirs_QV = case.array("loss_terms")
    yield compare("loss_terms", terms_QV[other_QV], theirs_QV[other_QV.numpy()], VALUE["atol"], 0)


def check_schedules(case: Case, epochs: int, peak: float, last: float) -> Iterator[Check]:
    """Compare a recipe's schedules: epochs of 13 steps, the first 10 to warm up."""
    if "sched_iters" in case:
        steps, every = case.array("sched_iters").tolist(), 13 * epochs
        rates = [warmup_cosine_inclusive(step, every, 130, peak, last) for step in steps]
        yield from case.check("sched_lr", rates, **SCHEDULE)
        training = TrainingConfig(weight_decay=0.04, decay_growth=10)
        yield from case.check("sched_wd", [weight_decay(training, step / every) for step in steps], **SCHEDULE)
        momenta = [teacher_momentum(DistillationConfig(momentum=0.996), step / every) for step in steps]
        yield from case.check("sched_mom", momenta, **SCHEDULE)
    for name in case.arrays:
        if said := re.fullmatch(r"sched_teacher_temp_\w+?_(\d+)p(\d+)_(\d+)p(\d+)_(\d+)_(\d+)", name):
            low, high = float(f"{said[1]}.{said[2]}"), float(f"{said[3]}.{said[4]}")
            warmup, every = int(said[5]), int(said[6])
            ours = [climb(epoch / every, warmup / every, low, high, warmup) for epoch in range(every)]
            yield from case.check(name, ours, **SCHEDULE)
