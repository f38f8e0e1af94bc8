"""Is the loss still a number? Asked at every step without a GPU having to wait for the answer."""

import math

import torch
from torch import Tensor


class NotFinite(Exception):
    """The loss of a step is not finite."""

    def __init__(self, step: int, value: float) -> None:
        super().__init__(f"the loss became {value} at step {step}")
        self.step, self.value = step, value


def check_at_once(step: int, total: Tensor) -> None:
    """Refuse a loss before its gradients spoil the weights, where asking costs nothing; a GPU is asked later.

    Raises:
        NotFinite: the loss is not finite.
    """
    if total.device.type != "cuda":
        _judge(step, float(total.detach()))


class FiniteCheck:
    """Looks at the losses of a GPU in order, each after the next step is under way."""

    def __init__(self) -> None:
        self._before: tuple[int, Tensor, torch.cuda.Event] | None = None

    def see(self, step: int, total: Tensor) -> None:
        """Take the loss of a step; on another device it has been looked at already.

        Raises:
            NotFinite: the loss before is not finite.
        """
        if total.device.type != "cuda":
            return
        before = self._before
        copied = torch.empty((), pin_memory=True).copy_(total.detach(), non_blocking=True)
        arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
        arrived.record(torch.cuda.current_stream(total.device))
        self._before = (step, copied, arrived)
        _judge_arrived(before)

    def settle(self) -> None:
        """Wait for the last loss and look at it, before anything of the training is kept; errors as in `see`."""
        before, self._before = self._before, None
        _judge_arrived(before)


def _judge_arrived(before: tuple[int, Tensor, torch.cuda.Event] | None) -> None:
    if before is not None:
        step, copied, arrived = before
        arrived.synchronize()
        _judge(step, float(copied))


def _judge(step: int, value: float) -> None:
    if not math.isfinite(value):
        raise NotFinite(step, value)
