"""A few small windows with labelled pixels, read once, so that features can be judged again and again for little.

Shape letters: N labelled pixels, W windows, C bands, S side of a window, D features.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rsfm.blocks.normalisation import Normalisation
from rsfm.raster.grid import Window
from rsfm.raster.labels import Indices, Labels
from rsfm.raster.reader import Raster
from rsfm.raster.statistics import Statistics
from rsfm.source import Source
from rsfm.training.linear_fit import thin

CELL, AROUND = 64, 8
"""Labelled pixels are taken from squares of so many pixels, which are read with so many around them."""
MOST_WINDOWS, MOST_PIXELS = 32, 2000
BATCH = 8


class LabelledWindows(NamedTuple):
    """Windows, and the labelled pixels in them.

    Attributes:
        labels: of these pixels alone.
        pixels_WCSS: normalised, 0 where invalid.
        window_N, row_N, column_N: the window of a pixel, and its place there.
    """

    labels: Labels
    pixels_WCSS: Tensor
    window_N: Indices
    row_N: Indices
    column_N: Indices

    def features(self, source: Source, device: str, check: Callable[[], None]) -> NDArray[np.float32]:
        """Return features_ND of the pixels, as a map would have them but for what lies outside of their window.

        Args:
            check: is called at every batch, and may raise to end the work.
        """
        features_ND = np.zeros((len(self.window_N), source.width), np.float32)
        source = source.to(device)
        with torch.inference_mode():
            for start in range(0, len(self.pixels_WCSS), BATCH):
                check()
                features_BDSS = source.features(self.pixels_WCSS[start : start + BATCH].to(device))
                here = np.flatnonzero((self.window_N >= start) & (self.window_N < start + BATCH))
                places = (self.window_N[here] - start, slice(None), self.row_N[here], self.column_N[here])
                features_ND[here] = features_BDSS[places].to(torch.float32).cpu().numpy()
        return features_ND


def read_windows(labels: Labels, raster: Raster, statistics: Statistics, stride: int, seed: int) -> LabelledWindows:
    """Choose windows as evenly as can be over classes and their polygons, and read them.

    Args:
        stride: sides of windows are multiples of it.

    Raises:
        UserError: the file is damaged.
    """
    across = raster.grid.width // CELL + 1
    cell_N = labels.rows_N // CELL * across + labels.columns_N // CELL
    class_P, polygon_P, cell_P = np.unique([labels.class_N, labels.polygon_N, cell_N], axis=1)
    classes = len(labels.names)
    cells_W = np.unique(cell_P[thin(class_P, polygon_P, max(MOST_WINDOWS // classes, 1), seed)])
    labels = _only(labels, np.flatnonzero(np.isin(cell_N, cells_W)))
    labels = _only(labels, thin(labels.class_N, labels.polygon_N, max(MOST_PIXELS // classes, 1), seed))
    window_N = np.searchsorted(cells_W, labels.rows_N // CELL * across + labels.columns_N // CELL)
    side = -(-(CELL + 2 * AROUND) // stride) * stride
    before = (side - CELL) // 2
    row_W, column_W = cells_W // across * CELL - before, cells_W % across * CELL - before
    normalise = Normalisation.from_statistics(statistics)
    windows = [
        raster.read(Window(int(row), int(column), side, side), "reflect")
        for row, column in zip(row_W, column_W, strict=True)
    ]
    pixels_WCSS, valid_WSS = (torch.from_numpy(np.stack(parts)) for parts in zip(*windows, strict=True))
    return LabelledWindows(
        labels,
        normalise(pixels_WCSS, valid_WSS),
        window_N,
        labels.rows_N - row_W[window_N],
        labels.columns_N - column_W[window_N],
    )


def _only(labels: Labels, kept: Indices) -> Labels:
    return labels._replace(
        rows_N=labels.rows_N[kept],
        columns_N=labels.columns_N[kept],
        class_N=labels.class_N[kept],
        polygon_N=labels.polygon_N[kept],
    )
