"""A few steps of a training, to see what one costs; a batch that takes long is told from smaller ones."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rsfm import memory
from rsfm.method import Sample
from rsfm.training.checkpoint import Position
from rsfm.training.config import TrainingConfig
from rsfm.training.fit import Fit, look_at_memory
from rsfm.training.step import take_step

ENOUGH_SECONDS, MOST_STEPS = 4.0, 4
"""Of steps at the largest batch that is tried."""
WHOLE_SECONDS, PART_SECONDS = 3.0, 1.5
"""A batch that would take longer than the first is not tried whole, but as many windows as take the second."""
LEAST_PASSING, MOST_PASSING = 0.08, 1.0
"""Memory that is taken in passing, as a share of what a step keeps for the way back: between these."""
LEAST_SHARE = 0.6
"""Of a step's time that grows with its windows."""


class Cost(NamedTuple):
    """What a step of the whole batch costs.

    Attributes:
        seconds, cpu_seconds: of a step.
        first_seconds: what the first one takes on top.
        memory, device_memory: bytes at the peak, of the whole process and on its GPU.
        window_memory: bytes that one more window takes.
    """

    seconds: float
    cpu_seconds: float
    first_seconds: float
    memory: int
    device_memory: int
    window_memory: float


class CountingFit(Fit):
    """Counts besides what a step keeps for the way back, in bytes."""

    kept = 0

    def watching(self, device: torch.device) -> AbstractContextManager[Any]:
        look, seen = look_at_memory(), set[int]()
        self.kept = 0

        def count(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in seen:
                seen.add(storage.data_ptr())
                self.kept += storage.nbytes()
            return look(tensor) if device.type == "cpu" else tensor

        return torch.autograd.graph.saved_tensors_hooks(count, lambda kept: kept)


class Step(NamedTuple):
    """A step that was taken: `held` bytes before it, `kept` for the way back, and the peaks until its end."""

    windows: int
    seconds: float
    cpu_seconds: float
    held: int
    kept: int
    memory: int
    device_memory: int


class Trial:
    """Steps of a training that is thrown away."""

    def __init__(self, method: Any, optimizer: Any, config: TrainingConfig, fit: CountingFit) -> None:
        """Begin.

        Args:
            method, optimizer: as Fabric has set them up.
        """
        self._method, self._optimizer, self._config, self._fit = method, optimizer, config, fit
        self.steps: list[Step] = []

    def run(self, take: Callable[[], Sample]) -> Cost:
        """Take steps of more and more windows, the whole batch where it is quick, and return what that one costs.

        Args:
            take: returns the sample of the next step, of the whole batch.
        """
        whole = self._config.batch_size
        least = min(whole, max(2, self._method.module.least * self._groups()))
        self._step(take, least)
        self._step(take, least)
        self._grow(take, whole)
        self._repeat(take)
        warm, small = self.steps[:2]
        slope = (self.steps[-1].kept - small.kept) / max(self.steps[-1].windows - small.windows, 1)
        return Cost(
            seconds=self._line(whole, [step.seconds for step in self.steps]),
            cpu_seconds=self._line(whole, [step.cpu_seconds for step in self.steps]),
            first_seconds=max(0.0, warm.seconds - small.seconds),
            memory=self._memory(whole, slope),
            device_memory=self._device_memory(whole),
            window_memory=slope * (1 + self._passing()),
        )

    def _grow(self, take: Callable[[], Sample], whole: int) -> None:
        """Take steps of more windows each, at least one, up to the whole batch or to one that takes a while."""
        while (last := self.steps[-1]).windows < whole and (last.seconds < PART_SECONDS / 2 or len(self.steps) < 3):
            each = last.seconds / last.windows
            part = max(2 * last.windows, int(PART_SECONDS / each))
            self._step(take, whole if each * whole <= WHOLE_SECONDS else min(part, whole))

    def _repeat(self, take: Callable[[], Sample]) -> None:
        """Take the largest step again, for as long as that makes the figure better."""
        started, windows = time.perf_counter(), self.steps[-1].windows
        for _ in range(MOST_STEPS):
            if time.perf_counter() - started + self.steps[-1].seconds > ENOUGH_SECONDS:
                break
            self._step(take, windows)

    def _groups(self) -> int:
        return int(getattr(getattr(self._method.module, "config", None), "bn_groups", 1))

    def _line(self, whole: int, values: list[float]) -> float:
        """Return what the whole batch takes: the mean of what was measured, or on the line through two sizes."""
        largest = self.steps[-1].windows
        last = [value for step, value in zip(self.steps, values, strict=True) if step.windows == largest]
        last = last[1:] or last
        mean = sum(last) / len(last)
        if largest == whole:
            return mean
        small = self.steps[1]
        slope = (mean - values[1]) / max(largest - small.windows, 1)
        slope = min(max(slope, LEAST_SHARE * mean / largest), mean / largest)
        return mean + slope * (whole - largest)

    def _memory(self, whole: int, slope: float) -> int:
        last = self.steps[-1]
        if last.windows == whole or last.device_memory:
            return last.memory
        kept = last.kept + slope * (whole - last.windows)
        return max(last.memory, int(last.held + kept * (1 + self._passing())))

    def _passing(self) -> float:
        """Return what is taken in passing, as the first step of the most windows showed it."""
        first = next(step for step in self.steps if step.windows == self.steps[-1].windows)
        share = (first.memory - first.held) / max(first.kept, 1) - 1
        return min(max(share, LEAST_PASSING), MOST_PASSING)

    def _device_memory(self, whole: int) -> int:
        """Return the bytes on the GPU, on the line through two sizes where the whole batch was not tried."""
        small, last = self.steps[1], self.steps[-1]
        if last.windows == whole or last.windows == small.windows:
            return last.device_memory
        slope = (last.device_memory - small.device_memory) / (last.windows - small.windows)
        return int(last.device_memory + max(slope, 0) * (whole - last.windows))

    def _step(self, take: Callable[[], Sample], windows: int) -> None:
        fabric = self._fit.fabric
        on_gpu = fabric.device.type == "cuda"
        if on_gpu:
            torch.cuda.reset_peak_memory_stats(fabric.device)
        held = memory.held()
        started, used = time.perf_counter(), time.process_time()
        sample: Sample = fabric.to_device(_first(take(), windows))
        position = Position(len(self.steps), 0, 0)
        take_step(self._method, self._optimizer, sample, self._config, 0.5, 100, position, self._fit)
        if on_gpu:
            torch.cuda.synchronize(fabric.device)
        ended, used_since = time.perf_counter() - started, time.process_time() - used
        there = torch.cuda.max_memory_allocated(fabric.device) if on_gpu else 0
        self.steps.append(Step(len(sample.pixels_BCHW), ended, used_since, held, self._fit.kept, memory.peak(), there))


def _first(sample: Sample, windows: int) -> Sample:
    """Return some of a sample's windows."""
    pixels_BCHW, valid_BHW, gsd_B, dates = sample
    some = Sample(pixels_BCHW[:windows], valid_BHW[:windows], gsd_B[:windows])
    return some if dates is None else some._replace(dates=type(dates)(*(tensor[:windows] for tensor in dates)))
