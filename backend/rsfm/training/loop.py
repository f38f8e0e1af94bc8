"""The loop that trains any method: one step after another until the budget is spent."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from lightning_fabric import Fabric
from lightning_utilities.core.apply_func import apply_to_collection

from rsfm.blocks.ranks import average, ranks
from rsfm.errors import Stopped, UserError
from rsfm.method import Loss, Method, Sample
from rsfm.runs import Run
from rsfm.training import checkpoint
from rsfm.training.checkpoint import Position
from rsfm.training.config import NO_BUDGET, TrainingConfig
from rsfm.training.cpu_attention import fast_attention
from rsfm.training.finite import NotFinite
from rsfm.training.fit import Fit
from rsfm.training.learner import set_up
from rsfm.training.lockstep import check_alike, check_all, in_step, mean_parts, same_time
from rsfm.training.prefetch import Prefetch
from rsfm.training.step import take_step

METRIC_EVERY_SECONDS = 1
VALIDATE_EVERY_SECONDS = 20
KNOWN_AFTER_SECONDS = 20
"""Of steps, which then tell how long the others take."""


Watcher = Callable[[Method, Position], None]


class Budget(NamedTuple):
    """How much training there is: seconds if not 0, else steps; an epoch is one pass over the windows."""

    seconds: float
    steps: int
    steps_per_epoch: int

    def progress(self, position: Position) -> float:
        """Tell how much of the budget is spent, from 0 to 1."""
        if self.seconds:
            return min(position.seconds / self.seconds, 1.0)
        return min(position.step / self.steps, 1.0)

    def seconds_left(self, position: Position) -> float:
        """Estimate how much time is left; 0 while too little is done to know."""
        if self.seconds:
            return self.seconds - position.seconds
        if position.seconds < KNOWN_AFTER_SECONDS:
            return 0.0
        return position.seconds / position.step * (self.steps - position.step)

    def epochs(self, position: Position) -> float:
        """Estimate how many epochs the whole training makes."""
        if not self.seconds:
            return self.steps / self.steps_per_epoch
        progress = self.progress(position)
        return position.step / max(progress, 1e-6) / self.steps_per_epoch


def make_budget(config: TrainingConfig, windows: int) -> Budget:
    """Make the budget of a training on a number of windows an epoch.

    Raises:
        UserError: neither time, epochs nor samples are given.
    """
    steps_per_epoch = max(1, windows // config.batch_size)
    if config.is_endless:
        raise UserError(NO_BUDGET, "training.minutes")
    return Budget(config.minutes * 60, config.steps(steps_per_epoch), steps_per_epoch)


def train(
    method: Method,
    batch: Callable[[int], Sample],
    config: TrainingConfig,
    budget: Budget,
    fabric: Fabric,
    run: Run,
    validate: Callable[[int], Sample] | None = None,
    watchers: Sequence[Watcher] = (),
) -> Position:
    """Train a method until its budget is spent; continues from the run's checkpoint if it has one.

    Args:
        batch: makes the sample of a step, the same for the same step; called in other threads, ahead of the steps.
        validate: makes the sample of a step that is not learned from.
        watchers: see the method after each step; they leave it and the random numbers as they were.

    Returns:
        Where the training stands at its end.

    Raises:
        Stopped, Cancelled: by the user; a stopped training has written its checkpoint.
        UserError: the loss is not finite.
    """
    wrapped, optimizer, writer = set_up(method, config, fabric, run)
    position, fit = writer.restore(), Fit(method, config, run, fabric)
    check_alike(position)
    saved = same_time(time.monotonic())
    started, reported, validated = saved - position.seconds, 0.0, 0.0
    told: set[str] = set()
    coming = Prefetch(_pinned(batch, fabric), position.step, config.readers)
    with _named_checkpoint(run), fast_attention(method, fabric.device), writer, coming, in_step():
        while (progress := budget.progress(position)) < 1:
            sample: Sample = fabric.to_device(coming.take())
            fit.compiling.consider(budget.seconds_left(position))
            loss = take_step(wrapped, optimizer, sample, config, progress, budget.epochs(position), position, fit)
            writer.finite.see(position.step, loss.total)
            _tell(loss, told, run)
            now = same_time(time.monotonic())
            position = Position(position.step + 1, now - started, position.windows + len(sample.pixels_BCHW) * ranks())
            if now - reported > METRIC_EVERY_SECONDS:
                reported = now
                _report(run, budget, position, loss, optimizer)
            if validate is not None and now - validated > VALIDATE_EVERY_SECONDS:
                _validate(method, validate(position.step), progress, position, fabric, run)
                validated = same_time(time.monotonic())
            if now - saved > config.checkpoint_minutes * 60:
                saved = now
                writer.save(position)
            for watch in watchers:
                watch(method, position)
            writer.look()
            try:
                check_all(run)
            except Stopped:
                writer.save(position)
                writer.wait()
                raise
        writer.save(position)
    return position


def _validate(method: Method, sample: Sample, progress: float, position: Position, fabric: Fabric, run: Run) -> None:
    with fabric.autocast():
        total = validation_loss(method, fabric.to_device(sample), progress)
    run.metric("validation_loss", position.step, total)


@torch.no_grad()
def validation_loss(method: Method, sample: Sample, progress: float) -> float:
    """Compute the loss of a sample and leave the method, and the random numbers to come, as they were."""
    state = {name: value.clone() for name, value in method.state_dict().items()}
    with torch.random.fork_rng():
        total = float(average(method.loss(sample, progress).total))
    method.load_state_dict(state)
    return total


@contextmanager
def _named_checkpoint(run: Run) -> Iterator[None]:
    """Say in a sentence what became of the loss, and which checkpoint is kept."""
    try:
        yield
    except NotFinite as found:
        raise UserError(
            f"The loss became {found.value} at step {found.step}. {checkpoint.describe(run.checkpoints)} "
            "Lower the 'Learning rate' and press Run again.",
            "training.learning_rate",
        ) from found


def _pinned(batch: Callable[[int], Sample], fabric: Fabric) -> Callable[[int], Sample]:
    """Let the readers put samples where a GPU takes them from without the training waiting."""
    if fabric.device.type != "cuda":
        return batch
    return lambda step: apply_to_collection(batch(step), torch.Tensor, torch.Tensor.pin_memory)


def _tell(loss: Loss, told: set[str], run: Run) -> None:
    """Tell the user what the method says, each sentence once."""
    for text in set(loss.warnings) - told:
        told.add(text)
        run.warning(text)


def _report(run: Run, budget: Budget, position: Position, loss: Loss, optimizer: Any) -> None:
    own = {"loss": loss.total.detach(), **loss.parts}
    parts = mean_parts({name: float(value) for name, value in own.items()})
    if not all(map(math.isfinite, parts.values())):
        return  # it is about to be said what the loss became
    parts["learning_rate"] = optimizer.param_groups[0]["lr"]
    progress = budget.progress(position)
    left = position.seconds * (1 - progress) / progress if progress else None
    speed = position.windows / max(position.seconds, 1e-6)
    run.progress(progress, f"step {position.step}, {speed:.0f} windows/s, loss {parts['loss']:.3f}", left)
    for name, value in parts.items():
        run.metric(name, position.step, value)
