"""Writes down what the report of a pretraining shows of its method and its ground, while both are at hand.

Each part is a file NAME.json in the run's folder `shown`, beside its pictures. A part that fails, or for which there is
no time, holds a sentence that says so under "problem": the run goes on.

Shape letters: B windows, N windows drawn, T dates, C bands, H rows, W columns, A heads, D features, h and w cells.
"""

import json
import logging
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rsfm.errors import Cancelled, Stopped
from rsfm.jobs.pretrain import PretrainConfig
from rsfm.method import Method, Sample
from rsfm.model_file import build_encoder
from rsfm.raster.fingerprint import fingerprint
from rsfm.raster.learned_ground import learned_ground
from rsfm.runs import Run, write_json
from rsfm.training.checkpoint import Position
from rsfm.training.machine import machine
from rsfm.training.shown_features import attention, embed, embedding, spread
from rsfm.training.shown_windows import reconstructions
from rsfm.training.window_source import Batches, WindowSource

log = logging.getLogger(__name__)

MOST_SECONDS, MOST_SHARE = 10.0, 0.03
"""Time that recording takes at most, the larger of both: seconds, or a share of the training."""
STOPPED_SECONDS = 1.0
"""Time that it takes when the user waits for the run to stop."""
BATCHES_DRAWN, MOST_OUTLINES = 8, 600
MOST_FILES = 200
UNUSED_STEP = 2**31
"""A batch that no training reaches."""

Part = Callable[[], dict[str, Any]]


class Recorder:
    """Records the parts of a report one after the other."""

    def __init__(
        self, config: PretrainConfig, source: WindowSource, batches: Batches, method: Method, precision: str, run: Run
    ) -> None:
        self._config, self._source, self._batches, self._method = config, source, batches, method
        self._precision, self._run = precision, run
        self._folder = run.folder / "shown"

    def record(self, position: Position | None) -> None:
        """Record all parts.

        Args:
            position: where the training ended; None where it was stopped, and little time is left.

        Raises:
            Cancelled: by the user.
        """
        self._folder.mkdir(exist_ok=True)
        seconds = STOPPED_SECONDS if position is None else max(MOST_SECONDS, MOST_SHARE * position.seconds)
        until = time.monotonic() + seconds
        steps = _reported_steps(self._run.folder) if position is None else position.step
        held_out = self._batches.validate is not None
        sample: Sample | None = None

        def windows() -> Sample:
            nonlocal sample
            if sample is None:
                make = self._batches.validate or self._batches.learn
                sample = make(UNUSED_STEP)
            return sample

        parts: dict[str, Part] = {
            "machine": lambda: machine(next(self._method.parameters()).device, self._precision, position),
            "files": self._files,
            "ground": lambda: self._ground(steps, until),
            "reconstructions": lambda: self._looking(reconstructions, windows(), held_out),
            "embedding": lambda: self._looking(self._embedding, windows(), held_out),
            "attention": lambda: self._looking(attention, windows(), held_out),
        }
        for name, make in parts.items():
            try:
                self._run.check()
            except Stopped:
                until = min(until, time.monotonic() + STOPPED_SECONDS)
            write_json(self._folder / f"{name}.json", _attempt(name, make, until))

    def _files(self) -> dict[str, Any]:
        paths = list(dict.fromkeys(raster.path for raster in self._source.sampler.rasters))
        found = [{"path": path, **fingerprint(path)} for path in paths[:MOST_FILES]]
        return {"files": found, "all": len(paths)}

    def _ground(self, steps: int, until: float) -> dict[str, Any]:
        """Draw the windows of some steps again, evenly over the training: a step's windows are always the same."""
        chosen = np.unique(np.linspace(0, max(steps - 1, 0), BATCHES_DRAWN).astype(int)).tolist()
        entry_N, corner_N2, drawn = np.empty(0, int), np.empty((0, 2), int), []
        for step in chosen:
            found = self._batches.drawn(step)
            entry_N = np.concatenate([entry_N, found.entry_NT[:, 0]])
            corner_N2 = np.concatenate([corner_N2, found.corner_N2])
            drawn.append(step)
            if len(entry_N) > MOST_OUTLINES or time.monotonic() > until:
                break
        ground = learned_ground(self._source.sampler, entry_N, corner_N2, self._folder, until)
        return {**ground, "steps": steps, "steps_drawn": drawn, "batch": self._config.training.batch_size}

    def _embedding(self, method: Method, sample: Sample, names: Sequence[str], folder: Path) -> dict[str, Any]:
        """Show the embedding, and how far windows lie apart to the same encoder before it has learned anything."""
        found = embedding(method, sample, names, folder)
        fresh = build_encoder(self._config.encoder.model_dump(), self._source.bands).to(sample.pixels_BCHW.device)
        return {**found, "untrained": spread(embed(fresh.eval(), sample))["deviation"]}

    def _looking(
        self, make: Callable[[Method, Sample, Sequence[str], Path], dict[str, Any]], sample: Sample, held_out: bool
    ) -> dict[str, Any]:
        """Let a part look at the method and some windows; the method and the random numbers stay as they were."""
        device, training = next(self._method.parameters()).device, self._method.training
        here = _to_device(sample, device)
        try:
            with torch.random.fork_rng(), torch.no_grad():
                torch.manual_seed(self._config.seed)
                self._method.eval()
                return {**make(self._method, here, self._source.band_names, self._folder), "held_out": held_out}
        finally:
            self._method.train(training)


def _attempt(name: str, make: Part, until: float) -> dict[str, Any]:
    """Make a part, or a sentence that says why there is none."""
    if time.monotonic() > until:
        return {"problem": "Left out, because the run was to end soon."}
    try:
        return make()
    except (Stopped, Cancelled):
        raise
    except Exception as error:
        log.warning("The report's part '%s' failed.\n%s", name, traceback.format_exc())
        return {"problem": f"This part could not be made ({type(error).__name__}: {error}). The log has the details."}


def _to_device(sample: Sample, device: torch.device) -> Sample:
    dates = sample.dates and type(sample.dates)(*(part.to(device) for part in sample.dates))
    return Sample(sample.pixels_BCHW.to(device), sample.valid_BHW.to(device), sample.gsd_B.to(device), dates)


def _reported_steps(folder: Path) -> int:
    """Return how many steps a run has told of."""
    last = 0
    with open(folder / "events.jsonl", encoding="utf-8") as lines:
        for line in lines:
            if '"metric"' in line and (event := json.loads(line))["type"] == "metric":
                last = max(last, event["step"])
    return last
