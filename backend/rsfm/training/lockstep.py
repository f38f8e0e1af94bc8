"""What all processes of a training decide alike: what time it is, whether it ends, what the numbers of a step are."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar, cast

import torch
from torch import distributed

from rsfm.blocks.ranks import average, begin_batch, rank, ranks, same_for_all, total
from rsfm.blocks.shared_norm import share_batch_norms
from rsfm.errors import Cancelled, Stopped, UserError
from rsfm.method import Sample
from rsfm.rope import OUT_OF_STEP
from rsfm.runs import Run
from rsfm.training.checkpoint import Position

T = TypeVar("T")


@contextmanager
def in_step() -> Iterator[None]:
    """Tell other threads when this process no longer goes in step with the others."""
    try:
        yield
    finally:
        OUT_OF_STEP.set()


def first_alone(make: Callable[[], T]) -> T:
    """Let the first process make something, and return it in all."""
    if ranks() == 1:
        return make()
    made = [make() if rank() == 0 else None]
    distributed.broadcast_object_list(made, src=0, device=torch.device("cpu"))
    return cast(T, made[0])


def same_time(seconds: float) -> float:
    """Return the first process's time, so that what is decided by time is decided alike."""
    return seconds if ranks() == 1 else float(same_for_all(torch.tensor(seconds, dtype=torch.float64)))


def check_all(run: Run) -> None:
    """Let the user end the run here, in all processes at the same step.

    Raises:
        Stopped, Cancelled: as the user chose.
    """
    if ranks() == 1:
        run.check()
        return
    ends = {0: None, 1: Stopped, 2: Cancelled}
    how = 0
    try:
        run.check()
    except Stopped:
        how = 1
    except Cancelled:
        how = 2
    if end := ends[min(int(total(torch.tensor(how))), 2)]:
        raise end


def mean_parts(parts: dict[str, float]) -> dict[str, float]:
    """Average numbers of the same names over all processes."""
    if ranks() == 1 or not parts:
        return parts
    means = average(torch.tensor([parts[name] for name in sorted(parts)], dtype=torch.float64))
    return dict(zip(sorted(parts), means.tolist(), strict=True))


def count_windows(module: torch.nn.Module, given: tuple[object, ...]) -> None:
    """Tell what is drawn at random how many windows a batch has; a hook before the loss."""
    sample = given[0]
    if isinstance(sample, Sample):
        begin_batch(len(sample.pixels_BCHW))


def check_alike(position: Position) -> Position:
    """Make sure that all processes go on from the same checkpoint, and return where it stands.

    Raises:
        UserError: one of them does not see it.
    """
    step = torch.tensor(position.step)
    if int(total(step)) != position.step * ranks() or int(same_for_all(step.clone())) != position.step:
        raise UserError(
            "The processes of this training do not see the same checkpoint. "
            "Put the run's folder (--run) on a disk that all computers share."
        )
    return position


def join(method: torch.nn.Module, windows: int) -> None:
    """Let a method take batch statistics, and draw at random, for the whole batch of all processes.

    Args:
        windows: of a batch.

    Raises:
        UserError: as many windows for each process are not possible.
    """
    if ranks() > 1:
        share_batch_norms(method)
        method.register_forward_pre_hook(count_windows)
    if windows % ranks():
        raise UserError(
            f"A batch of {windows} windows cannot be shared out among {ranks()} processes. "
            f"Set 'Batch size' to a multiple of {ranks()}, such as {-(-windows // ranks()) * ranks()}.",
            "training.batch_size",
        )
