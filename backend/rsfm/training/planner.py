"""What a pretraining will cost here, from a few of its steps."""

import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import psutil
import torch
from lightning_fabric import Fabric

from rsfm import memory, runs
from rsfm.devices import choose_device
from rsfm.jobs.pretrain import PretrainConfig
from rsfm.method import Method
from rsfm.plan import Facts, check_counts
from rsfm.raster.decoding import GB
from rsfm.runs import Run
from rsfm.training.checkpoint import Position
from rsfm.training.cpu_attention import fast_attention
from rsfm.training.fabric import make_fabric
from rsfm.training.fit import Measures
from rsfm.training.learner import set_up
from rsfm.training.loop import VALIDATE_EVERY_SECONDS, make_budget, validation_loss
from rsfm.training.prefetch import Prefetch
from rsfm.training.pretraining import build_method
from rsfm.training.trial import Cost, CountingFit, Trial
from rsfm.training.watchers import make_learning_map
from rsfm.training.watching import allowed_seconds, share_of_looks, still, undisturbed
from rsfm.training.window_source import Batches, WindowSource, open_windows

CLOSING_SECONDS = 0.5
"""For a run to write down how it ended, and for its process to leave."""
GROWN = 1.05
"""Memory of many steps over that of a few: what is freed is kept in pieces, not all of which a later tensor fits."""


class Looks(NamedTuple):
    """What the learning map takes: seconds of the first look and of a later one, of the processor's, peak memory."""

    first: float
    later: float
    cpu_seconds: float
    memory: int


def measure_pretraining(config: PretrainConfig) -> Facts:
    """Begin a pretraining as its run would, take some steps, and throw it away.

    Raises:
        UserError: the run would refuse the config, or its counts are absurd.
    """
    device = choose_device(config.device)
    torch.manual_seed(config.seed)
    undecoded = config.sampling.model_copy(update={"cache_gb": 0})  # decoding would take as long as in the run
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder, ExitStack() as stack:
        run = Run(runs.create(Path(folder), "pretrain", "plan", {}))
        source = open_windows(config.model_copy(update={"sampling": undecoded}), stack)
        check_counts(source.windows, config.training)
        method = build_method(config.method, config.encoder, source.bands)
        batches = source.batches(method, run)
        fabric = make_fabric(device)
        started, used = time.time() - psutil.Process().create_time(), time.process_time()
        cost, notes, saving = _try(method, batches, config, fabric, run)
        budget = make_budget(config.training, source.windows)
        whole = budget.seconds or budget.steps * cost.seconds
        looks = _try_looks(config, source, method, device, run, whole)
        busier = 1 + share_of_looks(whole, looks.later)
        kept = sum(tensor.nbytes for tensor in (*method.encoder.state_dict().values(), *method.kept().values()))
        decoded = round(config.sampling.cache_gb * GB)
        return Facts(
            unit="windows",
            amount=source.windows,
            batch=config.training.batch_size,
            seconds=cost.seconds * busier,
            cpu_seconds=cost.cpu_seconds * busier,
            start_seconds=started + cost.first_seconds + looks.first,
            start_cpu_seconds=used + looks.cpu_seconds,
            end_seconds=saving + looks.later + CLOSING_SECONDS,
            memory=int(GROWN * max(cost.memory, looks.memory)) + source.growth(),
            device_memory=cost.device_memory,
            disk=kept,
            checkpoint=_size(run.checkpoints) + decoded,
            checkpoint_seconds=saving,
            device=device,
            notes=notes,
        )


def _try(
    method: Method, batches: Batches, config: PretrainConfig, fabric: Fabric, run: Run
) -> tuple[Cost, tuple[str, ...], float]:
    """Take steps and write a checkpoint; returns what a step costs, what is to be said, and the seconds of writing."""
    training = config.training
    wrapped, optimizer, writer = set_up(method, training, fabric, run)
    fit = CountingFit(method, training, run, fabric)
    with Prefetch(batches.learn, 0, training.readers) as coming, fast_attention(method, fabric.device):
        cost = Trial(wrapped, optimizer, training, fit).run(coming.take)
    if batches.validate is not None:
        started = time.perf_counter()
        validation_loss(method, fabric.to_device(batches.validate(0)), 0.5)
        share = (time.perf_counter() - started) / VALIDATE_EVERY_SECONDS
        cost = cost._replace(seconds=cost.seconds * (1 + share))
    started = time.perf_counter()
    with writer:
        writer.save(Position())
    saving = time.perf_counter() - started
    notes = () if fit.measures == Measures() else (fit.describe(training.batch_size, fabric.device),)
    return cost, notes, saving


def _try_looks(
    config: PretrainConfig, source: WindowSource, method: Method, device: str, run: Run, seconds: float
) -> Looks:
    """Make the learning map twice, as a training of so many seconds does."""
    if not config.learning_map:
        return Looks(0.0, 0.0, 0.0, 0)
    look, used, times = make_learning_map(config, source, device, run), time.process_time(), []
    for step in (1, 2):
        started = time.perf_counter()
        with undisturbed(method.encoder):
            look(still(method.encoder), Position(step), allowed_seconds(seconds))
        times.append(time.perf_counter() - started)
    return Looks(times[0], times[1], time.process_time() - used, memory.peak())


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
