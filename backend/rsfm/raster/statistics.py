"""The range, mean and deviation of each band, by which pixels are normalised.

Per band: clip to the 1-99 % range widened by half its length on both sides, then zero mean and unit variance over valid
pixels. Overviews are never used: an average of pixels deviates less than the pixels do.

Shape letters: C bands, N pixels, B blocks of them.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rsfm.errors import UserError
from rsfm.params import Config
from rsfm.raster.band_measure import BandMeasure, measure_pixels, sampling_errors
from rsfm.raster.grid import Window
from rsfm.raster.reader import Raster, control

BLOCK = 256
MAX_VALUES = 2**26
"""Values, of all bands together, that are held in memory."""
ENOUGH_PIXELS = 10_000
"""Valid pixels below which the sample goes on growing."""

Measured = Literal["unknown", "exact", "sample"]


class Statistics(Config):
    """Per band: low and high clip the pixels; mean and deviation are those of the clipped ones; count is how many.

    Attributes:
        measured: from all valid pixels, or from a sample of blocks; unknown where somebody else measured.
        pixels: of the area measured, valid or not.
        mean_error, std_error, low_error, high_error: standard errors; the truth lies within three of them.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    count: tuple[int, ...]
    measured: Measured = "unknown"
    pixels: int = 0
    mean_error: tuple[float, ...] = ()
    std_error: tuple[float, ...] = ()
    low_error: tuple[float, ...] = ()
    high_error: tuple[float, ...] = ()

    @property
    def how(self) -> str:
        """How it was measured, in a sentence."""
        if self.measured == "unknown":
            return "How the bands were measured is not known."
        if self.measured == "exact":
            return f"The bands were measured on all {self.count[0]:,} valid pixels."
        error = max(3 * error / std for error, std in zip(self.mean_error, self.std, strict=True))
        return (
            f"The bands were measured on a sample of {self.count[0]:,} valid pixels of {self.pixels:,}; their means "
            f"are known to {error:.1%} of a standard deviation."
        )


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
        raise no_valid_pixel([raster.name for raster in rasters], rasters[0].field)
    pixels = sum(window.height * window.width for window in windows)
    return measure_parts(parts, pixels, 1 - seen / pixels)


def measure_parts(parts_CN: list[NDArray[Any]], pixels: int, unseen: float) -> Statistics:
    """Measure the valid pixels of blocks.

    Args:
        parts_CN: of each block; those without a valid pixel belong here too.
        pixels: of the area that the blocks were drawn from.
        unseen: share of these that was not looked at.
    """
    sizes_B = np.array([part_CN.shape[1] for part_CN in parts_CN])
    measures = []
    for channel in range(len(parts_CN[0])):
        pixels_N = np.concatenate([part_CN[channel] for part_CN in parts_CN])
        found = measure_pixels(pixels_N)
        measures.append(found._replace(errors=sampling_errors(pixels_N, sizes_B, found, unseen)) if unseen else found)
    return gather(measures, int(sizes_B.sum()), pixels, "sample" if unseen else "exact")


def gather(measures: Sequence[BandMeasure], count: int, pixels: int, measured: Measured) -> Statistics:
    """Put bands, of which `count` valid pixels were seen, beside each other."""
    return Statistics(
        mean=tuple(found.mean for found in measures),
        std=tuple(found.deviation for found in measures),
        low=tuple(found.low for found in measures),
        high=tuple(found.high for found in measures),
        count=(count,) * len(measures),
        measured=measured,
        pixels=pixels,
        mean_error=tuple(found.errors.mean for found in measures),
        std_error=tuple(found.errors.std for found in measures),
        low_error=tuple(found.errors.low for found in measures),
        high_error=tuple(found.errors.high for found in measures),
    )


def no_valid_pixel(names: Sequence[str], field: str) -> UserError:
    """Return the error to raise when rasters hold nothing to measure."""
    named = ", ".join(f"'{name}'" for name in names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return UserError(
        f"{named}: no valid pixel was found, all are nodata. Choose another raster or area, under "
        f"'{control(field)}' or 'Area'.",
        field,
    )


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
