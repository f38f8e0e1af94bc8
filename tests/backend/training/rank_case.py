"""Trains methods for a few steps on a raster, alone or as one of several processes; each writes what it saw."""

import json
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from rsfm import joint, runs
from rsfm.blocks.centring import Centre
from rsfm.blocks.patch_embed import PatchEmbed
from rsfm.blocks.projection import Prototypes
from rsfm.blocks.queue import Queue
from rsfm.jobs.pretrain import Pretrain, PretrainConfig
from rsfm.method import Method
from rsfm.runs import Run
from rsfm.training import loop
from rsfm.training.fabric import make_fabric
from rsfm.training.loop import Budget, train
from rsfm.training.pretraining import build_method
from rsfm.training.window_source import open_windows
from torch.nn import Conv2d, Linear

STEPS = 20
SMALL = {"hidden": 32, "bottleneck": 16, "prototypes": 64, "drop_path": 0.2, "freeze": 0.2}
TINY_VIT = {"width": 24, "depth": 2, "heads": 2}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "mae": ("mae_quick", {"encoder": TINY_VIT}),
    "dino": ("dino_quick", {"encoder": TINY_VIT, "method": SMALL}),
    "dino_conv": ("dino_quick", {"encoder": {"name": "conv_small", "width": 32}, "method": SMALL}),
    "moco_v2": ("quick", {"encoder": {"width": 32}, "method": {"queue": 64}}),
    "moco_v2_groups": ("quick", {"encoder": {"width": 32}, "method": {"queue": 64, "bn_groups": 4}}),
    "moco_v2_published": ("quick", {"encoder": {"width": 32}, "method": {"queue": 64, "views": "published"}}),
    "pera": ("pera_quick", {"encoder": TINY_VIT, "method": {**SMALL, "freeze": None}}),
    "satdino": ("satdino_quick", {"encoder": TINY_VIT, "method": SMALL}),
    "gassl": ("gassl_quick", {"encoder": {"width": 32}, "method": {"queue": 64}}),
    "satmae": ("satmae_quick", {"encoder": {**TINY_VIT, "group_width": 8}}),
    "satmae_temporal": ("satmae_temporal_quick", {"encoder": {**TINY_VIT, "width": 48, "time_width": 24}}),
    "data2vec": ("data2vec_quick", {"encoder": TINY_VIT, "method": {"drop_path": 0.2}}),
}


def make_config(case: str, raster: str, batch_size: int = 8) -> PretrainConfig:
    preset, changes = CASES[case]
    values = next(preset_.values for preset_ in Pretrain.presets() if preset_.name == preset)
    changes = {**changes, "training": {"batch_size": batch_size, "minutes": 0, "epochs": 1, "readers": 2}}
    changes["sampling"] = {"held_out": 0.3, "held_out_block": 1000, "max_invalid": 0.3}
    merged = {**values, "rasters": [raster], "device": "cpu", "seed": 3}
    for part, change in changes.items():
        merged[part] = {**merged.get(part, {}), **change}
        merged[part] = {name: value for name, value in merged[part].items() if value is not None}
    if merged["encoder"]["name"] == "conv_small":
        merged["encoder"] = {"name": "conv_small", "width": 32}
    return PretrainConfig.model_validate(merged)


def in_double(method: Method) -> None:
    """Let a method compute in double precision; views are made, and losses computed, in single precision as ever."""
    method.double()
    for module in method.modules():
        if isinstance(module, Queue | Centre):
            module.float()
        if isinstance(
            module, Conv2d | Linear | PatchEmbed | Prototypes
        ):  # pixels come in, or what was single for a while
            module.register_forward_pre_hook(lambda _, given: (given[0].double(), *given[1:]))


def learn(config: PretrainConfig, run: Run, steps: int = STEPS) -> None:
    """Do what `pretrain` does, in double precision: rounding, which optimizers amplify, is not what is looked for."""
    torch.manual_seed(config.seed)
    with ExitStack() as stack:
        source = open_windows(config, stack)
        method = build_method(config.method, config.encoder, source.bands)
        in_double(method)
        batches = source.batches(method, run)
        budget = Budget(0, steps, source.windows // config.training.batch_size)
        train(method, batches.learn, config.training, budget, make_fabric("cpu", "32-true"), run, batches.validate)
    torch.save(method.state_dict(), run.folder / "state.pt")


def learn_all(folder: Path, raster: str, cases: list[str]) -> Callable[[Run], dict[str, Any]]:
    loop.METRIC_EVERY_SECONDS = loop.VALIDATE_EVERY_SECONDS = -1  # every step tells

    def work(run: Run) -> dict[str, Any]:
        for case in cases:
            own = folder / f"{case}-{os.environ.get('RANK', '0')}"
            own.mkdir(parents=True)
            (own / "checkpoints").mkdir()
            learn(make_config(case, raster), Run(own))
        return {}

    return work


if __name__ == "__main__":
    folder, raster, *cases = sys.argv[1:]
    torch.set_num_threads(1)
    work = learn_all(Path(folder), raster, cases)
    if os.environ["RANK"] == "0":
        made = runs.create(Path(folder) / "runs", "pretrain", "ranks", {})
        joint.lead(work, Run(made), lambda text: print(json.dumps(text)))
        os._exit(0)
    os._exit(joint.follow(work))
