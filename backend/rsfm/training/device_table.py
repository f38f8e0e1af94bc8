"""What a device can train: for each preset of each method, how many windows fit, and how long a step takes.

Windows of noise stand for the user's; each preset is tried in a process of its own, so that memory is told apart.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil
import torch

from rsfm import memory, runs
from rsfm.errors import UserError
from rsfm.job import Preset
from rsfm.jobs.pretrain import Pretrain, PretrainConfig
from rsfm.method import Dates, Sample
from rsfm.plan import duration, size
from rsfm.runs import Run
from rsfm.training.fabric import make_fabric
from rsfm.training.learner import set_up
from rsfm.training.pretraining import build_method
from rsfm.training.trial import CountingFit, Trial

SHARE = 0.9
"""Of the free memory that a training may take."""
PATIENCE_SECONDS = 300
HEAD = ("preset", "method", "encoder", "window", "fits", "recipe", "memory", "a step")
"""`fits`: windows at once; `recipe`: windows of a step; `memory`: of that step."""
WIDTHS = (22, 9, 13, 7, 6, 6, 7, 9)


class Row(NamedTuple):
    """What a preset takes: windows that fit at once, the recipe's batch, bytes and seconds of its step."""

    preset: str
    method: str
    encoder: str
    window: int
    fits: int
    batch: int
    memory: int
    seconds: float


def try_presets(bands: int, device: str) -> Iterator[tuple[Preset, Row | None]]:
    """Try every preset; None for one of which not even a window fits, or that takes very long."""
    for preset in Pretrain.presets():
        command = [sys.executable, "-E", "-s", "-c", CHILD, preset.name, str(bands), device]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
            yield preset, Row(*json.loads(done.stdout.splitlines()[-1]))
        except (subprocess.TimeoutExpired, ValueError, IndexError):
            yield preset, None


def try_preset(name: str, bands: int, device: str) -> Row:
    """Take some steps of a preset's recipe on noise.

    Raises:
        UserError: there is no such preset, or not one window of it fits.
    """
    preset = next((preset for preset in Pretrain.presets() if preset.name == name), None)
    if preset is None:
        raise UserError(f"There is no preset '{name}'.")
    config = PretrainConfig.model_validate({**preset.values, "rasters": ["noise"]})
    method = build_method(config.method, config.encoder, bands)
    fabric = make_fabric(device)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        run = Run(runs.create(Path(folder), "pretrain", "table", {}))
        wrapped, optimizer, _ = set_up(method, config.training, fabric, run)
        trial = Trial(wrapped, optimizer, config.training, CountingFit(method, config.training, run, fabric))
        dates = method.dates
        cost = trial.run(lambda: noise(config.training.batch_size, bands, config.window, dates))
    taken = cost.device_memory or cost.memory
    room = SHARE * free_memory(device) + (0 if cost.device_memory else memory.held())
    fits = int((room - taken) / max(cost.window_memory, 1)) + config.training.batch_size
    return Row(
        name, config.method.name, config.encoder.name, config.window, max(fits, 0), config.training.batch_size, taken,
        cost.seconds,
    )  # fmt: skip


def noise(count: int, bands: int, side: int, dates: int) -> Sample:
    """Make a sample of noise, all valid, of 10 m."""
    pixels_BCHW = torch.randn(count, bands, side, side)
    valid_BHW = torch.ones((count, side, side), dtype=torch.bool)
    plain = Sample(pixels_BCHW, valid_BHW, torch.full((count,), 10.0))
    if dates == 1:
        return plain
    time_BT3 = torch.tensor([18, 6, 10]).expand(count, dates, 3)
    pixels_BTCHW, valid_BTHW = pixels_BCHW[:, None], valid_BHW[:, None]
    return plain._replace(
        dates=Dates(
            pixels_BTCHW.repeat(1, dates, 1, 1, 1), valid_BTHW.repeat(1, dates, 1, 1), time_BT3, torch.zeros(count, 2)
        )
    )


def free_memory(device: str) -> int:
    """Return the bytes that are free on a device."""
    if device.startswith("cuda"):
        return int(torch.cuda.mem_get_info(device)[0])
    return memory.available() if device == "cpu" else psutil.virtual_memory().available


def line(preset: Preset, row: Row | None) -> str:
    """Write a row of the table."""
    if row is None:
        return f"{preset.name:<18}  does not fit, or takes longer than {duration(PATIENCE_SECONDS)} to try"
    step = f"{row.seconds:.2f} s" if row.seconds < 90 else duration(row.seconds)
    return spread((row.preset, row.method, row.encoder, f"{row.window} px", f"{row.fits}", f"{row.batch}",
                   size(row.memory), step))  # fmt: skip


def spread(cells: Sequence[str]) -> str:
    """Write cells in columns."""
    return "  ".join(f"{cell:<{width}}" for cell, width in zip(cells, WIDTHS, strict=True))


CHILD = """
import json, os, sys
from rsfm.training.device_table import try_preset

protocol = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
protocol.write(json.dumps(try_preset(sys.argv[1], int(sys.argv[2]), sys.argv[3])) + "\\n")
protocol.flush()
"""
