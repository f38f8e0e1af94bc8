"""What an encoder's features are worth for the user's classes while it learns, on blocks of ground held out.

Nothing is learned from the labels: a vote of the nearest neighbours and a linear probe are fitted anew at every look,
on a few labelled pixels, and forgotten. The same on raw pixels is the floor that learning must pass.

Shape letters: N labelled pixels, D features.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from rsfm.blocks.neighbours import neighbour_votes
from rsfm.encoder import Encoder
from rsfm.errors import UserError
from rsfm.raster.blocks import Split, split_blocks
from rsfm.raster.labels import Labels, read_labels
from rsfm.raster.reader import Raster
from rsfm.raster.statistics import Statistics
from rsfm.runs import Run
from rsfm.source import Source
from rsfm.sources.encoded import Encoded
from rsfm.sources.pixels import Pixels
from rsfm.training.candidates import features_at
from rsfm.training.checkpoint import Position
from rsfm.training.linear_fit import fit, thin
from rsfm.training.scores import confusion, mean_iou

MOST_PIXELS = 2000
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

    def __init__(
        self, labels: Labels, raster: Raster, statistics: Statistics, device: str, seed: int, run: Run
    ) -> None:
        """Choose the pixels and the blocks.

        Raises:
            UserError: the labels cannot be judged by.
        """
        kept = thin(labels.class_N, labels.polygon_N, max(MOST_PIXELS // len(labels.names), 1), seed)
        labels = labels._replace(
            rows_N=labels.rows_N[kept], columns_N=labels.columns_N[kept], class_N=labels.class_N[kept],
            polygon_N=labels.polygon_N[kept],
        )  # fmt: skip
        self._labels, self._raster, self._statistics = labels, raster, statistics
        self._device, self._run = device, run
        self._split = split_blocks(labels, raster.grid, 0, seed)
        if not self._split.test_N.any() or len(np.unique(labels.class_N[self._split.train_N])) < 2:
            raise UserError(
                "The labels to watch by have one polygon of each class, and none is left to judge by. Draw more "
                "polygons, or leave 'Labels to watch by' empty.",
                "labels",
            )

    def __call__(self, encoder: Encoder, position: Position, _seconds: float) -> None:
        self._report(self._judge(Encoded(encoder)), position.step, "")

    def report_floor(self) -> None:
        """Report what raw pixels are worth, which does not change."""
        self._report(self._judge(Pixels(self._raster.bands)), 0, "_pixels")

    def _judge(self, source: Source) -> Scores:
        rows_N, columns_N = self._labels.rows_N, self._labels.columns_N
        check: Callable[[], None] = self._run.check
        features_ND = features_at(source, self._statistics, self._raster, rows_N, columns_N, self._device, check)
        return judge(features_ND, self._labels.class_N, self._split, len(self._labels.names))

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


def open_scores(
    labels: str, class_field: str, rasters: Sequence[Raster], statistics: Statistics, device: str, seed: int, run: Run
) -> OnlineScores:
    """Read the labels on the first raster that they lie on.

    Raises:
        UserError: they cannot be read, or lie on no raster.
    """
    first: UserError | None = None
    for raster in rasters[:MOST_TRIED]:
        try:
            return OnlineScores(read_labels(labels, class_field, raster), raster, statistics, device, seed, run)
        except UserError as error:
            first = first or error
    assert first is not None  # noqa: S101  there is a raster to learn from
    raise first
