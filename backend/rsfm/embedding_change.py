"""How much two dates differ to an encoder: the distance of their features, each standardised per channel and date.

The features of both dates are kept on disk while their means and deviations are measured, so that the encoder runs once
over each date and memory stays small.

Shape letters: D features, H rows, W columns of cells.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rsfm.errors import UserError
from rsfm.outputs.magnitude import Magnitude
from rsfm.raster.grid import Grid
from rsfm.raster.reader import Raster
from rsfm.raster.writer import RasterWriter
from rsfm.runs import Run

Finish = Callable[[np.ndarray, np.ndarray], None]
FeatureStrips = Callable[[Raster, Finish], tuple[Grid, int]]
"""Hands features_DHW and valid_HW of a raster to a callback, in strips from top to bottom.

Returns the grid of the features, and D.
"""

LEAST_DEVIATION = 1e-6
SAMPLE = 1_000_000
"""Cells from which the range of the colours is taken."""


class Range(NamedTuple):
    """The 2nd and the 98th percentile of a magnitude."""

    minimum: float
    maximum: float


class _Features:
    """Features of a date on disk, with their sums."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w+b")
        self.shapes: list[tuple[int, ...]] = []
        self.valid: list[np.ndarray] = []
        self._count = 0
        self._mean_D: np.ndarray = np.zeros(1)
        self._squares_D: np.ndarray = np.zeros(1)

    def add(self, features_DHW: np.ndarray, valid_HW: np.ndarray) -> None:
        self._check_space(features_DHW.nbytes)
        features_DHW.astype(np.float32).tofile(self._file)
        self.shapes.append(features_DHW.shape)
        self.valid.append(valid_HW.copy())
        self._measure(features_DHW[:, valid_HW])

    def standardised(self) -> Iterator[np.ndarray]:
        """Read the strips again, with mean 0 and deviation 1; a channel that never changes is 0."""
        deviation_D = np.sqrt(self._squares_D / max(self._count, 1))
        scale_D = np.where(deviation_D > LEAST_DEVIATION, 1 / np.maximum(deviation_D, LEAST_DEVIATION), 0)
        mean_D11, scale_D11 = (values.astype(np.float32)[:, None, None] for values in (self._mean_D, scale_D))
        self._file.seek(0)
        for shape in self.shapes:
            strip_DHW = np.fromfile(self._file, np.float32, int(np.prod(shape))).reshape(shape)
            yield (strip_DHW - mean_D11) * scale_D11

    def close(self) -> None:
        self._file.close()

    def _measure(self, features_DN: np.ndarray) -> None:
        """Add to the mean and the sum of squares (Chan et al., 1983, equation 2.1)."""
        count = features_DN.shape[1]
        if count == 0:
            return
        mean_D = features_DN.mean(1, dtype=np.float64)
        squares_D = np.square(features_DN - mean_D[:, None]).sum(1)
        step_D, total = mean_D - self._mean_D, self._count + count
        self._squares_D = self._squares_D + squares_D + step_D**2 * self._count * count / total
        self._mean_D = self._mean_D + step_D * count / total
        self._count = total

    def _check_space(self, needed: int) -> None:
        free = shutil.disk_usage(Path(self._file.name).parent).free
        if free < 2 * needed:
            raise UserError(
                f"The features of the encoder do not fit on the disk: {free / 1e9:.1f} GB are free. Choose a smaller "
                "area under 'Area', free some space, or leave 'Model' empty.",
                "area",
            )


def write_embedding_difference(before: Raster, after: Raster, features: FeatureStrips, path: Path, run: Run) -> Range:
    """Write the length of the difference of the standardised features, a pixel for each cell of the encoder.

    Args:
        before, after: on one grid.
        features: what runs the encoder over a raster.
    """
    with _stored(run.checkpoints / "before.partial") as first, _stored(run.checkpoints / "after.partial") as second:
        grid, _ = features(before, first.add)
        features(after, second.add)
        run.check()
        return _write(first, second, grid, path, run)


def _write(first: _Features, second: _Features, grid: Grid, path: Path, run: Run) -> Range:
    every = max(1, grid.height * grid.width // SAMPLE)
    sample = []
    with RasterWriter(path, Magnitude, grid, band_names=["Embedding difference"]) as writer:
        strips = zip(first.standardised(), second.standardised(), first.valid, second.valid, strict=True)
        for before_DHW, after_DHW, valid_before_HW, valid_after_HW in strips:
            run.check()
            length_HW = np.sqrt(np.square(after_DHW - before_DHW).sum(0))
            length_HW[~(valid_before_HW & valid_after_HW)] = np.nan
            writer.write(length_HW[None])
            sample.append(length_HW[np.isfinite(length_HW)][::every])
    found = np.concatenate(sample)
    low, high = np.percentile(found, [2, 98]) if found.size else (0.0, 1.0)
    return Range(float(low), float(high))


@contextmanager
def _stored(path: Path) -> Iterator[_Features]:
    features = _Features(path)
    try:
        yield features
    finally:
        features.close()
        path.unlink(missing_ok=True)
