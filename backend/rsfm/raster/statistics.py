"""The range, mean and deviation of each band, by which pixels are normalised.

Per band: clip to the 1-99 % range widened by half its length on both sides, then zero mean and unit variance over valid
pixels. Shape letters: C bands, N pixels.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from rsfm.errors import UserError
from rsfm.params import Config
from rsfm.raster.grid import Window
from rsfm.raster.reader import Raster, control

BLOCK = 256
MAX_VALUES = 2**26
"""Values, of all bands together, that are held in memory."""
ENOUGH_PIXELS = 10_000
"""Valid pixels below which the sample goes on growing."""


class Statistics(Config):
    """Per band: low and high clip the pixels; mean and deviation are those of the clipped ones; count is how many."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    count: tuple[int, ...]


def band_statistics(
    rasters: Sequence[Raster], windows: Sequence[Window], seed: int, sample_pixels: int = 4_000_000
) -> Statistics:
    """Measure the bands of one raster or several.

    Exact when the windows hold no more pixels than the sample may; else over blocks drawn at random, each once.

    Args:
        windows: one a raster; nothing outside counts.
        seed: the same seed draws the same blocks.

    Raises:
        UserError: no valid pixel, or rasters of different numbers of bands.
    """
    check_same_bands(rasters)
    limit = max(min(sample_pixels, MAX_VALUES // rasters[0].bands), 1)
    parts, seen, valid = [], 0, 0
    for raster, block in _shuffled_blocks(rasters, windows, seed):
        if seen >= limit and valid >= min(ENOUGH_PIXELS, limit):
            break
        pixels_CHW, valid_HW = raster.read(block)
        parts.append(pixels_CHW[:, valid_HW])
        seen += valid_HW.size
        valid += parts[-1].shape[1]
    if valid == 0:
        names = ", ".join(f"'{raster.name}'" for raster in rasters)
        raise UserError(
            f"{names}: no valid pixel was found, all are nodata. Choose another raster or area, under "
            f"'{control(rasters[0].field)}' or 'Area'.",
            rasters[0].field,
        )
    return _measure(np.concatenate(parts, axis=1))


def check_same_bands(rasters: Sequence[Raster]) -> None:
    """Make sure that rasters can be used together.

    Raises:
        UserError: their numbers of bands differ.
    """
    first = rasters[0]
    for raster in rasters[1:]:
        if raster.bands != first.bands:
            raise UserError(
                f"'{first.name}' has {first.bands} bands but '{raster.name}' has {raster.bands}. "
                f"Choose rasters with the same bands under '{control(raster.field)}'.",
                raster.field,
            )


def _shuffled_blocks(
    rasters: Sequence[Raster], windows: Sequence[Window], seed: int
) -> Iterator[tuple[Raster, Window]]:
    blocks = [
        (raster, Window(row, column, BLOCK, BLOCK).intersection(window))
        for raster, window in zip(rasters, windows, strict=True)
        for row in range(window.row // BLOCK * BLOCK, window.row + window.height, BLOCK)
        for column in range(window.column // BLOCK * BLOCK, window.column + window.width, BLOCK)
    ]
    for index in np.random.default_rng(seed).permutation(len(blocks)):
        yield blocks[index]


def _measure(pixels_CN: np.ndarray) -> Statistics:
    lows, highs, means, deviations = [], [], [], []
    for pixels_N in pixels_CN:
        low, high = (float(value) for value in np.percentile(pixels_N, (1, 99)))
        if low == high:  # nearly constant: the few other pixels are all there is to see
            low, high = float(pixels_N.min()), float(pixels_N.max())
        low, high = low - (high - low) / 2, high + (high - low) / 2
        clipped_N = np.clip(pixels_N, low, high)
        deviation = float(clipped_N.std(dtype=np.float64))
        lows.append(low)
        highs.append(high)
        means.append(float(clipped_N.mean(dtype=np.float64)))
        deviations.append(deviation if high > low and deviation > 0 else 1.0)
    return Statistics(
        mean=tuple(means),
        std=tuple(deviations),
        low=tuple(lows),
        high=tuple(highs),
        count=(pixels_CN.shape[1],) * len(pixels_CN),
    )
