"""Iteratively reweighted multivariate alteration detection (IR-MAD): how much two dates differ, whatever their gains.

Canonical correlation finds combinations of bands that agree best between the dates; what they leave over is difference.
Each pass gives more weight to pixels that seem unchanged. The result is no probability: with few grey levels the first
correlation nears 1 and the chi-square law no longer holds.

Nielsen, 2007, "The Regularized Iteratively Reweighted MAD Method for Change Detection in Multi- and Hyperspectral
Data", IEEE Transactions on Image Processing 16(2).

Shape letters: C bands, D bands of both dates (2 C), E those and one that is 1 everywhere, N pixels, H rows, W columns
with a margin on every side, R rows and S columns of a result, T and U those of a tile with what smoothing needs.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
from scipy.linalg import solve_triangular
from scipy.special import erfc, gamma, gammaincc

from rsfm.raster.smoothing import MARGIN, RADIUS, smooth_each

PASSES = 10
RIDGE = 1e-6
"""Part of the mean variance added to every variance, so that bands that are alike make no singular matrix."""
CHUNK = 1 << 15
"""Pixels summed at once; fixed, so that sums do not depend on how the pixels were read."""
BLOCK = 1 << 16
"""Pixels projected at once: few enough to stay in the processor's cache from one band to the next."""
ROWS, COLUMNS = 128, 256
"""Pixels that are projected and smoothed at once: few enough to stay in the processor's cache meanwhile."""
MOST_BANDS = 300
"""Bands up to which the chi-square law is summed: float64 holds all of its terms."""
FARTHEST = 700.0
"""Half of a chi-square sum beyond which its upper tail is 0 in float32, with so many bands."""


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
        return _length(self.rest(before, after))

    def magnitude_of_smooth(self, before_CHW: np.ndarray, after_CHW: np.ndarray, valid_HW: np.ndarray) -> np.ndarray:
        """Compute the magnitude_RS of smoothed dates, which have MARGIN pixels more on every side, 0 where invalid.

        Invalid pixels of the result hold anything.

        Smoothing and projecting are linear, so that what the variates leave over is smoothed in place of the bands of
        both dates, which are twice as many.

        Args:
            before_CHW, after_CHW: float32, or integers of 16 bits or fewer.
        """
        magnitude_RS = np.zeros([size - 2 * MARGIN for size in valid_HW.shape], np.float32)
        for rows, columns in _tiles(*magnitude_RS.shape):
            around = tuple(slice(at.start + MARGIN - RADIUS, at.stop + MARGIN + RADIUS) for at in (rows, columns))
            valid_TU = valid_HW[around]
            if valid_TU[RADIUS:-RADIUS, RADIUS:-RADIUS].any():
                rest_CTU = self.rest(before_CHW[:, *around], after_CHW[:, *around])
                if not valid_TU.all():
                    rest_CTU *= valid_TU.astype(np.float32)
                magnitude_RS[rows, columns] = _length(smooth_each(rest_CTU, valid_TU))
        return magnitude_RS

    def rest(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """Compute what the variates leave over, float32; bands first, then any shape."""
        rest = np.empty(before.shape, np.float32)
        step = max(1, BLOCK * before.shape[1] // max(before[0].size, 1))
        for first in range(0, before.shape[1], step):
            part = slice(first, first + step)
            before_part = _project(self.before_CC, self.centre_before_C, before[:, part])
            after_part = _project(self.after_CC, self.centre_after_C, after[:, part])
            np.subtract(before_part, after_part, out=rest[:, part])
        return rest


def fit_ir_mad(
    before_CN: np.ndarray, after_CN: np.ndarray, passes: int = PASSES, check: Callable[[], None] = lambda: None
) -> IrMad:
    """Fit the projections to valid pixels of both dates.

    Swapping the dates swaps the projections and leaves the magnitude as it is, to the last bit.

    Args:
        check: called before every pass; what it raises ends the work.
    """
    if _is_second(before_CN, after_CN):
        other = fit_ir_mad(after_CN, before_CN, passes, check)
        return IrMad(other.after_CC, other.before_CC, other.centre_after_C, other.centre_before_C, other.correlations_C)
    found: IrMad | None = None
    for _ in range(passes):
        check()
        found = _projections(*_moments(before_CN, after_CN, found))
    if found is None:
        raise ValueError("IR-MAD needs one pass at least.")
    return found


def _is_second(before_CN: np.ndarray, after_CN: np.ndarray) -> bool:
    """Tell which of two orders is not worked in, so that both give the same: by the first value that differs."""
    for before_N, after_N in zip(before_CN, after_CN, strict=True):
        differs_N = before_N != after_N
        if differs_N.any():
            first = int(np.argmax(differs_N))
            return bool(before_N[first] > after_N[first])
    return False


def _moments(before_CN: np.ndarray, after_CN: np.ndarray, last: IrMad | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the weighted mean_D and covariance_DD of the bands of both dates, in float64.

    Args:
        last: what the pass before found, by which pixels are weighted; None weights all alike.
    """
    bands, pixels = before_CN.shape
    start_C1 = [pixels_CN[:, :CHUNK].mean(1).astype(np.float64)[:, None] for pixels_CN in (before_CN, after_CN)]
    products_EE = np.zeros((2 * bands + 1, 2 * bands + 1))
    for part in _chunks(pixels):
        before_CP, after_CP = before_CN[:, part], after_CN[:, part]
        values_EN = np.ones((2 * bands + 1, before_CP.shape[1]))
        np.subtract(before_CP, start_C1[0], out=values_EN[:bands])
        np.subtract(after_CP, start_C1[1], out=values_EN[bands:-1])
        if last is not None:
            values_EN *= np.sqrt(_unchanged(last.magnitude(before_CP, after_CP), bands))
        products_EE += values_EN @ values_EN.T  # one symmetric product: half the work of any other
    total = max(products_EE[-1, -1], 1e-12)
    mean_D = products_EE[-1, :-1] / total
    covariance_DD = products_EE[:-1, :-1] / total - np.outer(mean_D, mean_D)
    return mean_D + np.concatenate(start_C1)[:, 0], covariance_DD


def _unchanged(magnitude_N: np.ndarray, bands: int) -> np.ndarray:
    """Return how likely unchanged pixels differ as much: the chi-square law's upper tail, in float64.

    It is gammaincc(bands / 2, squared / 2), summed to its end, of which all terms are positive: Abramowitz and Stegun,
    1964, "Handbook of Mathematical Functions", 26.4.4 and 26.4.5.
    """
    half_N = np.square(magnitude_N).astype(np.float64) / 2
    if bands > MOST_BANDS:
        return np.asarray(gammaincc(bands / 2, half_N))
    np.minimum(half_N, FARTHEST, out=half_N)
    odd = bands % 2
    factors = 1 / gamma(np.arange(bands // 2) + 1 + odd / 2)
    sum_N = np.zeros_like(half_N)
    for factor in factors[::-1]:
        sum_N *= half_N
        sum_N += factor
    sum_N *= np.exp(-half_N)
    if odd:
        root_N = np.sqrt(half_N)
        sum_N *= root_N
        sum_N += erfc(root_N)
    return np.asarray(sum_N)


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
    centred = pixels.astype(np.float32, order="C")
    centred -= centre_C.astype(np.float32).reshape(-1, *[1] * (pixels.ndim - 1))
    centred_CN = centred.reshape(len(pixels), -1)
    if centred_CN.shape[1] == 1:  # einsum would run along the bands, in another order
        centred_CN = centred_CN.repeat(2, 1)
        return np.asarray(_sum_bands(weights_CC, centred_CN)[:, :1].reshape(pixels.shape))
    return np.asarray(_sum_bands(weights_CC, centred_CN).reshape(pixels.shape))


def _sum_bands(weights_CC: np.ndarray, centred_CN: np.ndarray) -> np.ndarray:
    """Multiply as `@` does, but never in an order that depends on the number of pixels, as that of BLAS may."""
    return np.asarray(np.einsum("vc,cn->vn", weights_CC.astype(np.float32), centred_CN))


def _length(rest: Iterable[np.ndarray]) -> np.ndarray:
    """Return the length of vectors, component by component, so that it does not depend on the neighbours in memory."""
    parts = iter(rest)
    total = np.square(next(parts))
    square = np.empty_like(total)
    for part in parts:
        total += np.square(part, out=square)
    return np.asarray(np.sqrt(total, out=total))


def _tiles(height: int, width: int) -> Iterator[tuple[slice, slice]]:
    for row in range(0, height, ROWS):
        for column in range(0, width, COLUMNS):
            yield slice(row, min(row + ROWS, height)), slice(column, min(column + COLUMNS, width))


def _chunks(pixels: int) -> list[slice]:
    return [slice(start, start + CHUNK) for start in range(0, pixels, CHUNK)]
