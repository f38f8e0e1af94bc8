"""Writes down what the report of a pretraining shows of its method and its ground, while both are at hand.

Each part is a file NAME.json in the run's folder `shown`, beside its pictures. A part that fails, or for which there is
no time, holds a sentence that says so under "problem": the run goes on.

Shape letters: B windows, N windows drawn, T dates, C bands, H rows, W columns, A heads, D features, h and w cells.
"""

import json
import os
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rsfm.blocks.ranks import rank
from rsfm.errors import Stopped
from rsfm.jobs.pretrain import PretrainConfig
from rsfm.method import Dates, Method, Sample
from rsfm.model_file import build_encoder
from rsfm.raster.fingerprint import fingerprint
from rsfm.raster.learned_ground import learned_ground
from rsfm.runs import Run
from rsfm.shown import keep_part
from rsfm.training.checkpoint import Position
from rsfm.training.compiling import was_compiled
from rsfm.training.machine import machine
from rsfm.training.shown_features import attention, embed, embedding, spread
from rsfm.training.shown_windows import reconstructions
from rsfm.training.window_source import Batches, WindowSource

MOST_SECONDS, MOST_SHARE = 10.0, 0.03
"""Time that recording takes at most, the larger of both: seconds, or a share of the training."""
STOPPED_SECONDS = 0.7
"""Time that it takes when the user waits for the run to stop."""
BATCHES_DRAWN, MOST_OUTLINES = 8, 320
MOST_FILES = 200
LAST_BYTES = 2**18
UNUSED_STEP = 2**31
"""A batch that no training reaches."""

LATE = "Left out for lack of time, so that the run could end soon."

Part = Callable[[], dict[str, Any]]
Look = Callable[[Method, Sample, Sequence[str], Path], dict[str, Any]]


class Recorder:
    """Records the parts of a report one after the other."""

    def __init__(
        self, config: PretrainConfig, source: WindowSource, batches: Batches, method: Method, precision: str, run: Run
    ) -> None:
        self._config, self._source, self._batches, self._method = config, source, batches, method
        self._precision, self._run = precision, run
        self._folder = run.folder / "shown"

    def record(self, position: Position | None) -> None:
        """Record all parts, as far as there is time.

        Args:
            position: where the training ended; None where it was stopped, and little time is left.

        Raises:
            Cancelled: by the user.
        """
        if rank():  # the first process tells for all
            return
        seconds = STOPPED_SECONDS if position is None else max(MOST_SECONDS, MOST_SHARE * position.seconds)
        until = time.monotonic() + seconds
        steps = _reported_steps(self._run.folder) if position is None else position.step
        parts: dict[str, Part] = {
            "machine": lambda: machine(self._device, self._precision, was_compiled(self._method), position),
            "files": self._files,
            "ground": lambda: self._ground(steps, until),
            "reconstructions": lambda: self._look(reconstructions),
            "embedding": lambda: self._look(self._embedding),
            "attention": lambda: self._look(attention),
        }
        for name, make in parts.items():
            try:
                self._run.check()
            except Stopped:
                until = min(until, time.monotonic() + STOPPED_SECONDS)
            late = time.monotonic() > until
            keep_part(self._folder, name, _leave_out if late else make)

    @property
    def _device(self) -> torch.device:
        return next(self._method.parameters()).device

    @cached_property
    def _sample(self) -> Sample:
        """Windows of held-out ground if there is some, else of a batch that no training reaches."""
        sample = self._batches.shown(UNUSED_STEP)
        dates = sample.dates and Dates(*(part.to(self._device) for part in sample.dates))
        pixels_BCHW, valid_BHW, gsd_B, _ = sample
        return Sample(pixels_BCHW.to(self._device), valid_BHW.to(self._device), gsd_B.to(self._device), dates)

    def _files(self) -> dict[str, Any]:
        paths = list(dict.fromkeys(raster.path for raster in self._source.sampler.rasters))
        found = [{"path": path, **fingerprint(path)} for path in paths[:MOST_FILES]]
        return {"files": found, "all": len(paths)}

    def _ground(self, steps: int, until: float) -> dict[str, Any]:
        """Draw the windows of some steps again, evenly over the training: a step's windows are always the same."""
        chosen = np.unique(np.linspace(0, max(steps - 1, 0), BATCHES_DRAWN).astype(int)).tolist()
        each = max(1, MOST_OUTLINES // len(chosen))
        entries, corners = [], []
        for step in chosen:
            found = self._batches.drawn(step)
            entries.append(found.entry_NT[:each, 0])
            corners.append(found.corner_N2[:each])
            if time.monotonic() > until:
                break
        entry_N, corner_N2 = np.concatenate(entries), np.concatenate(corners)
        ground = learned_ground(self._source.sampler, entry_N, corner_N2, self._folder, until)
        return {**ground, "steps": steps, "steps_drawn": len(entries), "batch": self._config.training.batch_size}

    def _embedding(self, method: Method, sample: Sample, names: Sequence[str], folder: Path) -> dict[str, Any]:
        """Show the embedding, and how far windows lie apart to the same encoder before it has learned anything."""
        found = embedding(method, sample, names, folder)
        fresh = build_encoder(self._config.encoder.model_dump(), self._source.bands).to(sample.pixels_BCHW.device)
        return {**found, "untrained": spread(embed(fresh.eval(), sample, found["windows"]))["deviation"]}

    def _look(self, make: Look) -> dict[str, Any]:
        """Let a part look at the method and some windows; the method and the random numbers stay as they were."""
        sample, training = self._sample, self._method.training
        try:
            with torch.random.fork_rng(), torch.no_grad():
                torch.manual_seed(self._config.seed)
                self._method.eval()
                found = make(self._method, sample, self._source.band_names, self._folder)
        finally:
            self._method.train(training)
        return {**found, "held_out": self._batches.validate is not None}


def _leave_out() -> dict[str, Any]:
    return {"problem": LATE}


def _reported_steps(folder: Path) -> int:
    """Return how many steps a run has told of at last."""
    with open(folder / "events.jsonl", "rb") as file:
        file.seek(-min(LAST_BYTES, file.seek(0, os.SEEK_END)), os.SEEK_END)
        lines = file.read().decode(errors="replace").splitlines()
    told = (json.loads(line) for line in reversed(lines) if '"type": "metric"' in line and line.startswith("{"))
    return int(next(told, {"step": 0})["step"])
