"""Iteratively reweighted multivariate alteration detection (IR-MAD): how much two dates differ, whatever their gains.

Canonical correlation finds combinations of bands that agree best between the dates; what they leave over is difference.
Each pass gives more weight to pixels that seem unchanged. The result is no probability: with few grey levels the first
correlation nears 1 and the chi-square law no longer holds.

Nielsen, 2007, "The Regularized Iteratively Reweighted MAD Method for Change Detection in Multi- and Hyperspectral
Data", IEEE Transactions on Image Processing 16(2).

Shape letters: C bands, D bands of both dates (2 C), N pixels, H rows, W columns.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.linalg import solve_triangular
from scipy.special import gammaincc

PASSES = 10
RIDGE = 1e-6
"""Part of the mean variance added to every variance, so that bands that are alike make no singular matrix."""
CHUNK = 1 << 16
"""Pixels summed at once; fixed, so that sums do not depend on how the pixels were read."""


class IrMad(NamedTuple):
    """Projections of the bands onto variates that agree, each divided by the usual spread of what they leave over.

    Attributes:
        before_CC, after_CC: one variate a row, float64.
        centre_before_C, centre_after_C: weighted means of the bands; taken off first, or float32 would not do.
        correlations_C: canonical correlations, largest first.
    """

    before_CC: np.ndarray
    after_CC: np.ndarray
    centre_before_C: np.ndarray
    centre_after_C: np.ndarray
    correlations_C: np.ndarray

    def magnitude(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """Compute the square root of the chi-square sum, float32; bands first, then any shape."""
        rest = _project(self.before_CC, self.centre_before_C, before)
        rest -= _project(self.after_CC, self.centre_after_C, after)
        return np.asarray(np.sqrt(np.square(rest, out=rest).sum(0)))


def fit_ir_mad(
    before_CN: np.ndarray, after_CN: np.ndarray, passes: int = PASSES, check: Callable[[], None] = lambda: None
) -> IrMad:
    """Fit the projections to valid pixels of both dates.

    Swapping the dates swaps the projections and leaves the magnitude as it is, to the last bit.

    Args:
        check: called before every pass; what it raises ends the work.
    """
    if _is_second(before_CN, after_CN):
        found = fit_ir_mad(after_CN, before_CN, passes, check)
        return IrMad(found.after_CC, found.before_CC, found.centre_after_C, found.centre_before_C, found.correlations_C)
    bands, pixels = before_CN.shape
    weights_N = np.ones(pixels, np.float32)
    for number in range(passes):
        check()
        found = _projections(*_moments(before_CN, after_CN, weights_N))
        if number < passes - 1:
            for part in _chunks(pixels):
                squared = found.magnitude(before_CN[:, part], after_CN[:, part]) ** 2
                weights_N[part] = gammaincc(bands / 2, squared / 2)  # the chi-square law's upper tail
    return found


def _is_second(before_CN: np.ndarray, after_CN: np.ndarray) -> bool:
    """Tell which of two orders is not worked in, so that both give the same: by the first value that differs."""
    for before_N, after_N in zip(before_CN, after_CN, strict=True):
        differs_N = before_N != after_N
        if differs_N.any():
            first = int(np.argmax(differs_N))
            return bool(before_N[first] > after_N[first])
    return False


def _moments(before_CN: np.ndarray, after_CN: np.ndarray, weights_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the weighted mean_D and covariance_DD of the bands of both dates, in float64."""
    bands, pixels = before_CN.shape
    start_D1 = np.concatenate([before_CN[:, :CHUNK].mean(1), after_CN[:, :CHUNK].mean(1)]).astype(np.float64)[:, None]
    total, sum_D, products_DD = 0.0, np.zeros(2 * bands), np.zeros((2 * bands, 2 * bands))
    for part in _chunks(pixels):
        values_DN = np.concatenate([before_CN[:, part], after_CN[:, part]]).astype(np.float64) - start_D1
        weights = weights_N[part].astype(np.float64)
        total += weights.sum()
        sum_D += values_DN @ weights
        products_DD += (values_DN * weights) @ values_DN.T
    total = max(total, 1e-12)
    mean_D = sum_D / total
    return mean_D + start_D1[:, 0], products_DD / total - np.outer(mean_D, mean_D)


def _projections(mean_D: np.ndarray, covariance_DD: np.ndarray) -> IrMad:
    """Solve for the canonical variates by whitening each date; a date is scaled by its own spread, so gains cancel."""
    bands = len(mean_D) // 2
    scale_D = np.sqrt(np.maximum(np.diag(covariance_DD), 0))
    scale_D = np.where(scale_D > 0, scale_D, 1.0)  # a constant band stays constant
    scaled_DD = covariance_DD / np.outer(scale_D, scale_D)
    white_before_CC = _whitening(scaled_DD[:bands, :bands])
    white_after_CC = _whitening(scaled_DD[bands:, bands:])
    left_CC, correlations_C, right_CC = np.linalg.svd(white_before_CC @ scaled_DD[:bands, bands:] @ white_after_CC.T)
    correlations_C = np.clip(correlations_C, 0, 1 - RIDGE)
    spread_C1 = np.sqrt(2 * (1 - correlations_C))[:, None]
    before_CC = left_CC.T @ white_before_CC / scale_D[:bands] / spread_C1
    after_CC = right_CC @ white_after_CC / scale_D[bands:] / spread_C1
    return IrMad(before_CC, after_CC, mean_D[:bands], mean_D[bands:], correlations_C)


def _whitening(covariance_CC: np.ndarray) -> np.ndarray:
    """Return the inverse of the Cholesky factor, with the ridge."""
    identity_CC = np.eye(len(covariance_CC))
    ridge = RIDGE * max(float(np.diag(covariance_CC).mean()), 1e-12)
    factor_CC = np.linalg.cholesky(covariance_CC + ridge * identity_CC)
    return np.asarray(solve_triangular(factor_CC, identity_CC, lower=True))


def _project(weights_CC: np.ndarray, centre_C: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Sum the bands band by band, so that a pixel's value does not depend on its neighbours in memory."""
    shape = (-1, *[1] * (pixels.ndim - 1))
    projected = np.zeros(pixels.shape, np.float32)
    for band, centre, weights_C in zip(pixels, centre_C, weights_CC.T.astype(np.float32), strict=True):
        projected += weights_C.reshape(shape) * (band - np.float32(centre))
    return projected


def _chunks(pixels: int) -> list[slice]:
    return [slice(start, start + CHUNK) for start in range(0, pixels, CHUNK)]
