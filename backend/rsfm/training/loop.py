"""The loop that trains any method: one step after another until the budget is spent."""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from lightning_fabric import Fabric

from rsfm.blocks.ranks import average, rank, ranks
from rsfm.errors import Stopped, UserError
from rsfm.method import Loss, Method, Sample
from rsfm.runs import Run
from rsfm.training import checkpoint
from rsfm.training.checkpoint import Position
from rsfm.training.config import TrainingConfig
from rsfm.training.lockstep import check_alike, check_all, in_step, join, mean_parts, same_time
from rsfm.training.optimizer import make_optimizer
from rsfm.training.prefetch import Prefetch
from rsfm.training.step import take_step

CHECKPOINT_EVERY_SECONDS = 300
METRIC_EVERY_SECONDS = 1
VALIDATE_EVERY_SECONDS = 20


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

    def epochs(self, position: Position) -> float:
        """Estimate how many epochs the whole training makes."""
        if not self.seconds:
            return self.steps / self.steps_per_epoch
        progress = self.progress(position)
        return position.step / max(progress, 1e-6) / self.steps_per_epoch


def make_budget(config: TrainingConfig, windows: int) -> Budget:
    """Make the budget of a training on a number of windows an epoch.

    Raises:
        UserError: neither time nor epochs are given.
    """
    steps_per_epoch = max(1, windows // config.batch_size)
    if config.minutes == 0 and config.epochs == 0:
        raise UserError("The budget is empty. Set 'Minutes', or 'Epochs' with 0 minutes.", "training.minutes")
    return Budget(config.minutes * 60, config.epochs * steps_per_epoch, steps_per_epoch)


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
        watchers: look at the method after each checkpoint; they leave it and the random numbers as they were.

    Returns:
        Where the training stands at its end.

    Raises:
        Stopped, Cancelled: by the user; a stopped training has written its checkpoint.
        UserError: the loss is not finite.
    """
    join(method, config.batch_size)
    optimizer = make_optimizer(method, config)
    position = check_alike(checkpoint.load(run.checkpoints, method, optimizer))
    method.to(memory_format=_memory_format(method))  # before gradients are laid out for their exchange
    wrapped, optimizer = fabric.setup(method, optimizer)
    wrapped.mark_forward_method("loss")
    method.train()
    started = saved = same_time(time.monotonic())
    reported = validated = 0.0
    told, spent = set[str](), position.seconds
    with Prefetch(batch, position.step, config.readers) as coming, in_step():
        while (progress := budget.progress(position)) < 1:
            sample: Sample = fabric.to_device(coming.take())
            loss = take_step(wrapped, optimizer, sample, config, progress, budget.epochs(position), position, fabric)
            _tell(loss, told, run)
            method.after_step(progress)
            now = same_time(time.monotonic())
            windows = position.windows + len(sample.pixels_BCHW) * ranks()
            position = Position(position.step + 1, spent + now - started, windows)
            if now - reported > METRIC_EVERY_SECONDS:
                reported = now
                _report(run, budget, position, mean_parts({"loss": loss.total.item(), **loss.parts}))
            if validate is not None and now - validated > VALIDATE_EVERY_SECONDS:
                held_out = validation_loss(method, fabric.to_device(validate(position.step)), progress)
                run.metric("validation_loss", position.step, held_out)
                validated = same_time(time.monotonic())
            if now - saved > CHECKPOINT_EVERY_SECONDS:
                saved = now
                _keep(run, method, optimizer, position, watchers)
            try:
                check_all(run)
            except Stopped:
                _keep(run, method, optimizer, position)
                raise
    return position


@torch.no_grad()
def validation_loss(method: Method, sample: Sample, progress: float) -> float:
    """Compute the loss of a sample and leave the method, and the random numbers to come, as they were."""
    state = {name: value.clone() for name, value in method.state_dict().items()}
    with torch.random.fork_rng():
        total = float(average(method.loss(sample, progress).total))
    method.load_state_dict(state)
    return total


def _memory_format(method: Method) -> torch.memory_format:
    """Choose the order of the weights in memory: convolutions run up to twice as fast with channels last."""
    if isinstance(wanted := getattr(method, "memory_format", None), torch.memory_format):
        return wanted
    convolves = any(parameter.ndim == 4 for parameter in method.parameters())
    return torch.channels_last if convolves else torch.contiguous_format


def _keep(run: Run, method: Method, optimizer: Any, position: Position, watchers: Sequence[Watcher] = ()) -> None:
    """Write a checkpoint and let watchers look, in the first process."""
    if rank() == 0:
        checkpoint.save(run.checkpoints, method, optimizer, position)
        for watch in watchers:
            watch(method, position)


def _tell(loss: Loss, told: set[str], run: Run) -> None:
    """Tell the user what the method says, each sentence once."""
    for text in set(loss.warnings) - told:
        told.add(text)
        run.warning(text)


def _report(run: Run, budget: Budget, position: Position, parts: dict[str, float]) -> None:
    progress = budget.progress(position)
    left = position.seconds * (1 - progress) / progress if progress else None
    speed = position.windows / max(position.seconds, 1e-6)
    run.progress(progress, f"step {position.step}, {speed:.0f} windows/s, loss {parts['loss']:.3f}", left)
    for name, value in parts.items():
        run.metric(name, position.step, value)
