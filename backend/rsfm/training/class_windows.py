"""Windows with labelled pixels for a decoder to learn from: as often of each class, zoomed, turned and mirrored.

What is not labelled, or not for learning, has no class. A labelled pixel keeps its class through every zoom: each is
put where it comes to lie, so that a single point is never lost and none is made up.

Shape letters: B batch, C bands, H rows, W columns, S side of a window, K classes, N labelled pixels, P polygons.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from rsfm.blocks.normalisation import Normalisation
from rsfm.raster.grid import Window
from rsfm.raster.labels import Indices, Labels
from rsfm.raster.reader import Raster
from rsfm.training.box_windows import turned

UNKNOWN = -1
"""In place of a class, where none is known."""
SHIFT = 3 / 8
"""How far from the middle of its window the pixel that it was drawn for may lie, as a share of the side."""
COUNTED = 200
"""Windows that are drawn to see how often each class appears in them."""


class ClassSample(NamedTuple):
    """A batch of windows.

    Attributes:
        pixels_BCHW: normalised, 0 where invalid.
        class_BHW: int64; what is not 0 to K - 1 is not known.
        share_B: what the sum of a window's weighted losses is multiplied by, so that the mean of these over all
            windows is the weighted mean over the labelled pixels of the batch, in whatever parts it is computed.
    """

    pixels_BCHW: Tensor
    class_BHW: Tensor
    share_B: Tensor


class _Draw(NamedTuple):
    """A window of the raster that is to be shown with another side, and what of its labels is seen."""

    window: Window
    row_N: Indices
    column_N: Indices
    class_N: Indices


class ClassWindows:
    """Makes batches; the same step gives the same one.

    Attributes:
        weight_K: of a pixel of each class, 1 on average over the labelled pixels.
        cells: squares of a window's size that hold labels; a pass over them is an epoch.
    """

    def __init__(
        self,
        raster: Raster,
        labels: Labels,
        normalisation: Normalisation,
        side: int,
        batch: int,
        zoom: float,
        balanced: bool,
        seed: int,
    ) -> None:
        """Look at the labels.

        Args:
            labels: those to learn from, in the order of the raster.
            zoom: windows are shown up to so many times larger or smaller.
            balanced: every class weighs the same.
        """
        self._raster, self._labels, self._normalisation = raster, labels, normalisation
        self._side, self._batch, self._zoom, self._seed = side, batch, zoom, seed
        polygon_K = [np.unique(labels.polygon_N[labels.class_N == value]) for value in range(len(labels.names))]
        self._polygons = [polygons for polygons in polygon_K if len(polygons)]
        order = np.argsort(labels.polygon_N, kind="stable")
        starts = np.flatnonzero(np.diff(labels.polygon_N[order], prepend=-1))
        members = np.split(order, starts[1:])
        self._members = {int(labels.polygon_N[own[0]]): own for own in members}
        across = raster.grid.width // side + 1
        self.cells = len(np.unique(labels.rows_N // side * across + labels.columns_N // side))
        self.weight_K = self._weigh() if balanced else torch.ones(len(labels.names))

    def batch(self, step: int) -> ClassSample:
        """Make the sample of a step."""
        random = np.random.default_rng((self._seed, step))
        windows = [self._make(self._draw(random), random) for _ in range(self._batch)]
        pixels, classes = zip(*windows, strict=True)
        class_BHW = torch.from_numpy(np.stack(classes))
        known_BHW = class_BHW != UNKNOWN
        total = self.weight_K[class_BHW[known_BHW]].sum().clamp(min=1e-6)
        return ClassSample(torch.cat(pixels), class_BHW, (self._batch / total).expand(self._batch).clone())

    def _draw(self, random: np.random.Generator) -> _Draw:
        """Choose a class, one of its polygons, a pixel of that, and a window around it."""
        polygons = self._polygons[int(random.integers(len(self._polygons)))]
        own = self._members[int(random.choice(polygons))]
        pixel = int(random.choice(own))
        side = max(round(self._side * self._zoom ** random.uniform(-1, 1)), 1)
        row, column = (
            int(at) - side // 2 + int(random.integers(-int(side * SHIFT), int(side * SHIFT) + 1))
            for at in (self._labels.rows_N[pixel], self._labels.columns_N[pixel])
        )
        return self._seen(Window(row, column, side, side))

    def _seen(self, window: Window) -> _Draw:
        """Find the labelled pixels in a window; they are in the order of the raster."""
        rows_N, columns_N = self._labels.rows_N, self._labels.columns_N
        first, end = np.searchsorted(rows_N, (window.row, window.row + window.height))
        part = slice(int(first), int(end))
        inside = (columns_N[part] >= window.column) & (columns_N[part] < window.column + window.width)
        row_N, column_N = rows_N[part][inside] - window.row, columns_N[part][inside] - window.column
        return _Draw(window, row_N, column_N, self._labels.class_N[part][inside])

    def _make(self, draw: _Draw, random: np.random.Generator) -> tuple[Tensor, NDArray[np.int64]]:
        """Read a window; return pixels_1CSS and class_SS."""
        turn, mirror = int(random.integers(4)), bool(random.integers(2))
        pixels_CHW, valid_HW = self._raster.read(draw.window, "reflect")
        given = torch.from_numpy(turned(pixels_CHW, turn, mirror)), torch.from_numpy(turned(valid_HW, turn, mirror))
        pixels_1CHW = self._normalisation(given[0][None], given[1][None])
        class_SS = np.asarray(turned(_paint(draw, self._side), turn, mirror), np.int64)
        return _zoomed(pixels_1CHW, self._side), class_SS

    def _weigh(self) -> Tensor:
        """Weigh the classes by how often they appear in windows as they are drawn, before any is read."""
        random = np.random.default_rng((self._seed, 2**31))
        counts_K = np.zeros(len(self._labels.names))
        for _ in range(COUNTED):
            counts_K += np.bincount(self._draw(random).class_N, minlength=len(counts_K))
        there_K = counts_K > 0
        weight_K = np.where(there_K, counts_K.sum() / np.maximum(counts_K, 1) / max(there_K.sum(), 1), 1.0)
        return torch.from_numpy(weight_K.astype(np.float32))


def _paint(draw: _Draw, side: int) -> NDArray[np.int64]:
    """Put the labelled pixels of a window where they lie when it is shown with another side."""
    times = side / draw.window.height
    class_SS = np.full((side, side), UNKNOWN, np.int64)
    rows_N, columns_N = (np.floor((at_N + 0.5) * times).astype(np.int64) for at_N in (draw.row_N, draw.column_N))
    class_SS[rows_N, columns_N] = draw.class_N
    return class_SS


def _zoomed(pixels_1CHW: Tensor, side: int) -> Tensor:
    if pixels_1CHW.shape[-1] == side:
        return pixels_1CHW
    return functional.interpolate(pixels_1CHW, (side, side), mode="bilinear", antialias=pixels_1CHW.shape[-1] > side)
