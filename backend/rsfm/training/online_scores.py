"""What an encoder's features are worth for the user's classes while it learns, on blocks of ground held out.

Nothing is learned from the labels: a vote of the nearest neighbours and a linear probe are fitted anew at every look,
on a few labelled pixels, and forgotten. The same on raw pixels is the floor that learning must pass.

Shape letters: N labelled pixels, D features.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from rsfm.blocks.neighbours import neighbour_votes
from rsfm.encoder import Encoder
from rsfm.errors import UserError
from rsfm.jobs.pretrain import PretrainConfig
from rsfm.raster.blocks import Split, split_blocks
from rsfm.raster.labels import read_labels
from rsfm.raster.reader import Raster
from rsfm.runs import Run
from rsfm.source import Source
from rsfm.sources.encoded import Encoded
from rsfm.sources.pixels import Pixels
from rsfm.training.checkpoint import Position
from rsfm.training.labelled_windows import LabelledWindows, read_windows
from rsfm.training.linear_fit import fit
from rsfm.training.scores import confusion, mean_iou
from rsfm.training.window_source import WindowSource

MOST_TRIED = 64
"""Rasters of a collection in which labels are looked for."""
NEIGHBOURS = 20
PENALTY = 0.1


class Scores(NamedTuple):
    """Mean IoU on the held-out blocks."""

    knn: float
    probe: float


class OnlineScores:
    """A look that judges features at the labelled pixels of one raster."""

    def __init__(self, windows: LabelledWindows, raster: Raster, device: str, seed: int, run: Run) -> None:
        """Choose the blocks that are held out.

        Raises:
            UserError: the labels cannot be judged by.
        """
        self._windows, self._device, self._run = windows, device, run
        self._bands = raster.bands
        self._floor: Scores | None = None
        self._last: Scores | None = None
        self._split = split_blocks(windows.labels, raster.grid, 0, seed)
        if not self._split.test_N.any() or len(np.unique(windows.labels.class_N[self._split.train_N])) < 2:
            raise UserError(
                "The labels to watch by have one polygon of each class, and none is left to judge by. Draw more "
                "polygons, or leave 'Labels to watch by' empty.",
                "labels",
            )

    def __call__(self, encoder: Encoder, position: Position, _seconds: float) -> None:
        self._last = self._judge(Encoded(encoder))
        self._report(self._last, position.step, "")

    def report_floor(self) -> None:
        """Report what raw pixels are worth, which does not change."""
        self._floor = self._judge(Pixels(self._bands))
        self._report(self._floor, 0, "_pixels")

    def sentence(self) -> str:
        """Say what the features came to be worth, against raw pixels."""
        if self._last is None or self._floor is None:
            return ""
        return (
            f"Linear probe {self._last.probe:.2f}, raw pixels {self._floor.probe:.2f} (mean IoU on held-out blocks of "
            f"your labels). Nearest neighbours {self._last.knn:.2f}, raw pixels {self._floor.knn:.2f}."
        )

    def _judge(self, source: Source) -> Scores:
        features_ND = self._windows.features(source, self._device, self._run.check)
        labels = self._windows.labels
        return judge(features_ND, labels.class_N, self._split, len(labels.names))

    def _report(self, scores: Scores, step: int, suffix: str) -> None:
        for name, score in scores._asdict().items():
            self._run.metric(f"{name}_miou{suffix}", step, score)


def judge(features_ND: NDArray[np.float32], class_N: NDArray[Any], split: Split, classes: int) -> Scores:
    """Judge features by neighbours and by a linear probe: learnt on one part of a split, measured on the other."""
    train_ND, test_ND = features_ND[split.train_N], features_ND[split.test_N]
    known_N, asked_N = class_N[split.train_N], class_N[split.test_N]
    votes_NK = neighbour_votes(
        torch.from_numpy(train_ND), torch.from_numpy(known_N), torch.from_numpy(test_ND), NEIGHBOURS, classes
    )
    probe = fit(train_ND, known_N, classes, PENALTY)
    guesses = (votes_NK.argmax(dim=1).numpy(), probe.predict(test_ND))
    return Scores(*(mean_iou(confusion(asked_N, guess_N, classes)) for guess_N in guesses))


def open_scores(config: PretrainConfig, source: WindowSource, stride: int, device: str, run: Run) -> OnlineScores:
    """Read the labels on the first raster that they lie on.

    Args:
        stride: of the encoder.

    Raises:
        UserError: they cannot be read, or lie on no raster.
    """
    first: UserError | None = None
    for raster in source.rasters[:MOST_TRIED]:
        try:
            labels = read_labels(config.labels or "", config.class_field, raster)
            windows = read_windows(labels, raster, source.statistics, stride, config.seed)
            return OnlineScores(windows, raster, device, config.seed, run)
        except UserError as error:
            first = first or error
    assert first is not None  # noqa: S101  there is a raster to learn from
    raise first
