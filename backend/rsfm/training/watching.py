"""Looks at an encoder now and then while it learns, for a small share of the time, and leaves no trace in the training.

What is looked at is a copy in eval mode, and the random numbers to come are kept: a training gives the same weights
whether it is watched or not.
"""

import copy
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from rasterio.errors import RasterioError
from torch import nn

from rsfm.encoder import Encoder
from rsfm.errors import Cancelled, Stopped, UserError
from rsfm.method import Method
from rsfm.runs import Run
from rsfm.training.checkpoint import Position
from rsfm.training.loop import Budget

LOOKS, FEWEST_LOOKS = 10, 5
"""Looks at a short training: after each tenth of it, or each fifth where a look takes long, so that it can be followed
from the first minute. A long one is looked at every few minutes."""
LOOK_EVERY_SECONDS = 300
MOST_TIME, MOST_TIME_SHORT = 0.01, 0.03
"""Share of the time for one kind of look, and that of a short training; what takes longer is done less often."""
SHORT_SECONDS = 600

Look = Callable[[Encoder, Position, float], None]
"""Takes the encoder, in eval mode, and how many seconds the look should take at most."""


class Watching:
    """A watcher of the loop: looks at the first step, then at each tenth of a short training or every few minutes."""

    def __init__(self, look: Look, what: str, budget: Budget, run: Run) -> None:
        """Watch a training.

        Args:
            what: names the look in the warning that it failed.
        """
        self._look, self._what, self._budget, self._run = look, what, budget, run
        self._looked: Position | None = None
        self._cost = 0.0
        self._failed = False

    def __call__(self, method: Method, position: Position) -> None:
        if self._is_due(position):
            self._watch(method, position)

    def finish(self, method: Method, position: Position) -> None:
        """Look at what the training came to."""
        if self._looked is None or self._looked.step != position.step:
            self._watch(method, position)

    def _is_due(self, position: Position) -> bool:
        if self._failed or self._looked is None:
            return not self._failed
        share = self._budget.progress(position) - self._budget.progress(self._looked)
        waited = position.seconds - self._looked.seconds
        is_time = share >= 1 / LOOKS or waited >= LOOK_EVERY_SECONDS
        return is_time and waited >= self._cost / _most_time(self._seconds(position))

    def _seconds(self, position: Position) -> float:
        """Estimate how long the whole training lasts."""
        return position.seconds / max(self._budget.progress(position), 1e-9)

    def _watch(self, method: Method, position: Position) -> None:
        if self._failed:
            return
        seconds = self._seconds(position)
        allowed = allowed_seconds(seconds)
        is_first = self._looked is None
        self._looked, began = position, time.monotonic()
        try:
            self._run.check()
            with undisturbed(method.encoder):
                self._look(still(method.encoder), position, allowed)
        except (Stopped, Cancelled):
            pass  # the loop hears it next, and keeps what is done
        except (UserError, RasterioError, OSError, torch.OutOfMemoryError) as error:
            self._failed = True
            self._run.warning(f"{self._what} is not shown any more, and the training goes on: {error}")
        cost = time.monotonic() - began
        self._cost = min(cost, allowed) if is_first else cost  # the first one makes what the others use


def still(encoder: Encoder) -> Encoder:
    """Return a copy that does not learn, to be looked at."""
    return copy.deepcopy(encoder).requires_grad_(False).eval()


def allowed_seconds(seconds: float) -> float:
    """Return how long a look may take in a training of so many seconds."""
    return _most_time(seconds) * min(seconds / FEWEST_LOOKS, LOOK_EVERY_SECONDS)


def share_of_looks(seconds: float, each: float) -> float:
    """Estimate the share of a training's seconds that looks of so many seconds take, first and last aside."""
    if not each:
        return 0.0
    return each / max(min(seconds / LOOKS, LOOK_EVERY_SECONDS), each / _most_time(seconds))


def _most_time(seconds: float) -> float:
    return MOST_TIME_SHORT if seconds < SHORT_SECONDS else MOST_TIME


@contextmanager
def undisturbed(network: nn.Module) -> Iterator[None]:
    """Give the random numbers of the CPU and of a network's GPU back as they were."""
    gpus = {parameter.device for parameter in network.parameters() if parameter.device.type == "cuda"}
    with torch.random.fork_rng(gpus, device_type="cuda"):
        yield
