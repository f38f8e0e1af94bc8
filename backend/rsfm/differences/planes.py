"""What tells one kind of change from another at a pixel: both dates, what lies around, their difference.

A value does not depend on the window it is read with.

Shape letters: C bands, P components of an encoder, H rows, W columns, N pixels, F features.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple, Protocol

import numpy as np
from scipy.ndimage import correlate1d

from rsfm.differences.opening import open_as_asked
from rsfm.differences.pair_config import AlignedPairConfig
from rsfm.differences.scaling import Scaling, measure_scaling, middles
from rsfm.differences.shift import Shift
from rsfm.raster.grid import Window
from rsfm.raster.pair import Pair

SIGMA, RADIUS = 2.0, 8
"""Of the Gaussian that tells what lies around, in pixels."""
KERNEL = np.exp(-0.5 * (np.arange(-RADIUS, RADIUS + 1) / SIGMA) ** 2)
KERNEL /= KERNEL.sum()
DEVIATION_SIDE, LEAST_DEVIATION = 64, 1e-6


class Cells(Protocol):
    """The components of an encoder's features around a window, of both dates."""

    def read(self, window: Window, step: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Interpolate before_PHW and after_PHW at the pixels of a window, or at every `step`th row and column."""


class Encoded(Protocol):
    """An encoder, ready to look at both dates."""

    components: int

    def look(self, window: Window) -> Cells:
        """Run the encoder around a window."""


class Planes(NamedTuple):
    """Both dates at the pixels of a window, scaled, float32.

    Attributes:
        around_before_CHW, around_after_CHW: smoothed.
        cells_before_PHW, cells_after_PHW: of the encoder; P is 0 without one.
        valid_HW: usable on both dates; elsewhere the others mean nothing.
    """

    before_CHW: np.ndarray
    after_CHW: np.ndarray
    around_before_CHW: np.ndarray
    around_after_CHW: np.ndarray
    cells_before_PHW: np.ndarray
    cells_after_PHW: np.ndarray
    valid_HW: np.ndarray

    def features(self, inside_HW: np.ndarray) -> np.ndarray:
        """Return features_NF, float64, of some pixels: |d|, d, both dates, the same three smoothed, the encoder's."""
        before, after, around_before, around_after, cells_before, cells_after = (
            plane[:, inside_HW].astype(np.float64) for plane in self[:6]
        )
        d = after - before
        columns = [np.abs(d), d, before, after, around_after - around_before, around_before, around_after]
        columns += [cells_after - cells_before, cells_before, cells_after]
        return np.concatenate(columns).T


class Scene:
    """Two dates, measured, of which windows are read.

    Attributes:
        pair: the open rasters.
        shift: how far the later date lay off, if that was to be corrected; None where it was not asked for.
        encoded: an encoder, or None.
        deviation_F: of the features over the whole overlap, without those of an encoder.
    """

    def __init__(
        self, pair: Pair, shift: Shift | None, scalings: tuple[Scaling, Scaling], readers: ThreadPoolExecutor
    ) -> None:
        self.pair, self.shift, self._scalings, self._readers = pair, shift, scalings, readers
        self.encoded: Encoded | None = None
        self._kept: tuple[Window, Cells] | None = None
        self.deviation_F = np.ones(7 * pair.before.bands)

    def read(self, window: Window, cells: Cells | None = None, step: int = 1) -> Planes:
        """Read a window, which may pass the raster's edge.

        Args:
            cells: of the encoder around the window or more; None without one.
            step: every so many rows and columns are kept, from the first on.
        """
        row, column, height, width = window
        wide = Window(row - RADIUS, column - RADIUS, height + 2 * RADIUS, width + 2 * RADIUS)
        *dates, valid_HW = self.pair.read(wide)
        share_HW = _share(valid_HW)
        inside = slice(RADIUS, RADIUS + height, step), slice(RADIUS, RADIUS + width, step)
        own, around = [], []
        for pixels_CHW, scaling in zip(dates, self._scalings, strict=True):
            smooth = list(self._readers.map(lambda band_HW: _around(band_HW, share_HW, inside), pixels_CHW))
            around.append(scaling.apply(np.stack(smooth)))
            own.append(scaling.apply(pixels_CHW[:, *inside].copy()))
        valid_HW = valid_HW[inside]
        shape = (0, *valid_HW.shape)
        none = np.empty(shape, np.float32)
        seen_before, seen_after = (none, none) if cells is None else cells.read(window, step)
        return Planes(own[0], own[1], around[0], around[1], seen_before, seen_after, valid_HW)

    def look(self, window: Window, keep: bool = False) -> Cells | None:
        """Return what the encoder sees around a window; None without one.

        Args:
            keep: answer with it for all windows inside, until another one is kept.
        """
        if self.encoded is None:
            return None
        if self._kept is not None and window.intersection(self._kept[0]) == window:
            return self._kept[1]
        cells = self.encoded.look(window)
        if keep:
            self._kept = window, cells
        return cells


@contextmanager
def open_scene(config: AlignedPairConfig, done: Callable[[float], None] = lambda part: None) -> Iterator[Scene]:
    """Open and measure two dates as the job's parameters say.

    Args:
        done: told which part of the looking for a shift is done.

    Raises:
        UserError: they cannot be compared.
    """
    with open_as_asked(config, done) as (pair, shift), ThreadPoolExecutor(os.cpu_count()) as readers:
        scene = Scene(pair, shift, measure_scaling(pair), readers)
        scene.deviation_F = measure_deviation(scene)
        yield scene


def measure_deviation(scene: Scene) -> np.ndarray:
    """Return deviation_F of the features over the whole overlap, without those of an encoder; 1 where it is 0."""
    count, sums = 0, np.zeros((2, 1))
    for window in middles(scene.pair.window, DEVIATION_SIDE):
        planes = scene.read(window)
        features_NF = planes.features(planes.valid_HW)
        count += len(features_NF)
        sums = sums + np.stack([features_NF.sum(axis=0), np.square(features_NF).sum(axis=0)])
    mean_F, square_F = sums / max(count, 1)
    deviation_F = np.sqrt(np.maximum(square_F - mean_F**2, 0))
    return np.where(deviation_F > LEAST_DEVIATION, deviation_F, 1)


def _share(valid_HW: np.ndarray) -> np.ndarray | None:
    """Return what smoothed pixels are to be multiplied with, because invalid ones count as 0; None is 1 everywhere."""
    if valid_HW.all():
        return None
    weight_HW = _blur(valid_HW.astype(np.float32))
    return np.asarray(np.divide(1, weight_HW, out=np.zeros_like(weight_HW), where=weight_HW > 0))


def _around(band_HW: np.ndarray, share_HW: np.ndarray | None, inside: tuple[slice, slice]) -> np.ndarray:
    smooth_HW = _blur(band_HW)[inside]
    return smooth_HW.copy() if share_HW is None else smooth_HW * share_HW[inside]


def _blur(band_HW: np.ndarray) -> np.ndarray:
    """Smooth a band; within RADIUS of its edge the result is that of zeros beyond."""
    down_HW = correlate1d(band_HW, KERNEL, axis=0, mode="constant")
    return np.asarray(correlate1d(down_HW, KERNEL, axis=1, mode="constant"))
