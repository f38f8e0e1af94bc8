"""Trains MAE as one of two processes, of which the second may take little memory from a step on."""

import json
import os
import resource
import sys
from pathlib import Path
from typing import Any

import torch
from rsfm import joint, runs
from rsfm.method import Sample
from rsfm.runs import Run
from rsfm.training.config import TrainingConfig
from rsfm.training.fabric import make_fabric
from rsfm.training.loop import Budget, train
from rsfm.training.pretraining import build_method

from .test_step import learn, preset, sample

ROOM, STEPS, WINDOWS, FEW, SIDE = 240 * 2**20, 5, 256, 8, 32


def limit() -> None:
    """Let this process take only a little more than it has; 128 windows at once take 0.4 GB."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM,) * 2)


def main(folder: Path, limited_at: int) -> int:
    rank = int(os.environ["RANK"])
    torch.set_num_threads(1)
    config = preset("mae_quick")
    torch.manual_seed(0)
    learn(folder / f"warm-{rank}", build_method(config.method, config.encoder, 4), 1, sample(4, 4, SIDE))
    method = build_method(config.method, config.encoder, 4)

    def work(run: Run) -> dict[str, Any]:
        def batch(step: int) -> Sample:
            if step == limited_at and rank == 1:
                limit()
            return sample(FEW if step < limited_at else WINDOWS // 2, 4, SIDE)

        values = {"batch_size": WINDOWS, "readers": 0, "checkpoint_minutes": 0, "warmup": 0}
        train(
            method,
            batch,
            TrainingConfig.model_validate(values),
            Budget(0, STEPS, STEPS),
            make_fabric("cpu", "32-true"),
            run,
        )
        torch.save({"state": method.state_dict(), "parts": method.parts}, folder / f"{rank}.pt")
        return {}

    if rank:
        return joint.follow(work)
    if not (folder / "run").exists():
        runs.create(folder, "pretrain", "x", {}).rename(folder / "run")
    try:
        joint.lead(work, Run(folder / "run"), lambda text: print(json.dumps(text), flush=True))
    except Exception as error:
        print(json.dumps(str(error)), flush=True)
        return 1
    return 0


if __name__ == "__main__":
    code = main(Path(sys.argv[1]), int(sys.argv[2]))
    sys.stdout.flush()
    os._exit(code)
