"""What IR-MAD, which knows no labels, is worth on the held-out blocks, with its usual threshold and with a fitted one.

Shape letters: H rows, W columns, T thresholds.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rsfm.differences.change_labels import IGNORED, UNCHANGED
from rsfm.differences.change_split import LabelledChange, Part
from rsfm.raster.grid import Window
from rsfm.raster.ir_mad import IrMad, fit_ir_mad
from rsfm.raster.pair import Pair
from rsfm.raster.pair_pixels import PairPixels
from rsfm.raster.pair_sample import take_sample
from rsfm.raster.threshold import automatic_threshold

STEPS = 1000
"""Thresholds that are tried, with as many pixels between each two."""


class Baseline(NamedTuple):
    """F1 on what was held out.

    Attributes:
        fitted: with the threshold that does best where the network learned.
        automatic: with the threshold that comes from the histogram.
    """

    fitted: float
    automatic: float


def measure_ir_mad(pair: Pair, labelled: LabelledChange, check: Callable[[], None]) -> Baseline:
    """Fit IR-MAD to the overlap, its threshold to what is learned, and judge it on what is held out."""
    sample = take_sample(pair, lambda part: check())
    found = fit_ir_mad(sample.smooth_before_CN, sample.smooth_after_CN, check=check)
    magnitude_N = found.magnitude(sample.smooth_before_CN, sample.smooth_after_CN)
    automatic = automatic_threshold(magnitude_N)
    thresholds_T = np.unique(np.append(np.quantile(magnitude_N, np.linspace(0, 1, STEPS + 1)), automatic))
    del sample, magnitude_N
    train_2T, test_2T = np.zeros((2, len(thresholds_T) + 1)), np.zeros((2, len(thresholds_T) + 1))
    for window in _blocks(pair, labelled):
        check()
        magnitude_HW, valid_HW = _magnitude(pair, window, found)
        bin_HW = np.searchsorted(thresholds_T, magnitude_HW, side="left")  # above as many thresholds
        parts: tuple[tuple[Part, NDArray[np.float64]], ...] = (("train", train_2T), ("test", test_2T))
        for part, counts_2T in parts:
            target_HW = labelled.target(window, part)
            for row, wanted_HW in enumerate((target_HW == UNCHANGED, target_HW != UNCHANGED)):
                chosen_HW = wanted_HW & valid_HW & (target_HW != IGNORED)
                counts_2T[row] += np.bincount(bin_HW[chosen_HW], minlength=len(thresholds_T) + 1)
    test_T = f1_above(test_2T)
    return Baseline(
        float(test_T[int(f1_above(train_2T).argmax())]), float(test_T[int(np.searchsorted(thresholds_T, automatic))])
    )


def f1_above(counts_2T: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the F1 of calling changed what exceeds each threshold.

    Args:
        counts_2T: pixels that did not change, and that did, by the number of thresholds that they exceed.
    """
    above_2T = np.cumsum(counts_2T[:, ::-1], axis=1)[:, ::-1][:, 1:]
    false_T, hits_T = above_2T
    changed = counts_2T[1].sum()
    return np.asarray(2 * hits_T / np.maximum(hits_T + false_T + changed, 1))


def _blocks(pair: Pair, labelled: LabelledChange) -> Iterator[Window]:
    """Give the blocks of ground where the dates overlap."""
    for block in labelled.split.blocks(pair.before.grid):
        window = block.window.intersection(pair.window)
        if window.height and window.width:
            yield window


def _magnitude(pair: Pair, window: Window, found: IrMad) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    pixels = PairPixels(pair, window)
    return found.magnitude_of_smooth(*pixels.around), pixels.valid_HW
