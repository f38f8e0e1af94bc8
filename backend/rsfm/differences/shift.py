"""Finds by how much two dates miss each other, in parts of a pixel, from blocks whose edges agree.

Blocks of both dates are compared by the phase correlation of their gradient vectors (Argyriou and Vlachos, 2004, "Using
gradient correlation for sub-pixel motion estimation of video sequences", ICASSP), whose peak is refined by a Fourier
transform of finer steps (Guizar-Sicairos et al., 2008, "Efficient subpixel image registration algorithms", Optics
Letters 33(2)). Block size, gate and limits were measured on real pairs.

Shape letters: C bands, H rows, W columns of a block, N blocks.
"""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
from scipy import fft, ndimage

from rsfm.raster.grid import Window
from rsfm.raster.pair import Pair

Verdict = Literal["aligned", "shifted", "unknown"]
Doubt = Literal["", "no block", "no peak", "one block", "few blocks", "blocks disagree"]

BLOCK, STEP, SMALLEST_BLOCK = 128, 64, 64
MOST_BLOCKS = 256
"""Of a large overlap blocks lie farther apart, so that the check takes seconds whatever the size."""
MOST_BANDS = 4
SIGMA, MARGIN = 1.0, 5
CUTOFF = 0.2
"""Spread of the low-pass, in periods a pixel."""
FINER = 20
"""Steps a pixel in which the peak is looked for."""
QUALITY = 9.0
"""Peak over deviation of the correlation, from which a block counts."""
FEWEST, SHARE, SPREAD, SMALLEST = 2, 0.25, 1.0, 0.3
"""Blocks and share of them that must count, how far these may stray (median, px), the shift worth correcting (px)."""
TAPER = 16
"""Pixels over which a block fades out towards invalid pixels."""
VALID = 0.75
"""Share of a block that must be valid on both dates."""


class BlockShift(NamedTuple):
    """How far the later date lies off in a block.

    Attributes:
        row, column: the block's centre, in pixels of the pair's grid.
        down, right: where the later date shows what the earlier one shows at the centre, in pixels from there.
        quality: peak over deviation of the correlation.
    """

    row: float
    column: float
    down: float
    right: float
    quality: float

    @property
    def counts(self) -> bool:
        return self.quality >= QUALITY


class Shift(NamedTuple):
    """How far the later date lies off as a whole.

    Attributes:
        verdict: "unknown" where too few blocks agree to tell.
        down, right: median of the blocks that count, in pixels; 0 where unknown.
        spread: median distance of these blocks from it; inf where none counts.
        counted: how many blocks count.
        blocks: all of them.
        doubt: why the verdict is "unknown".
    """

    verdict: Verdict
    down: float
    right: float
    spread: float
    counted: int
    blocks: tuple[BlockShift, ...]
    doubt: Doubt = ""

    @property
    def length(self) -> float:
        return float(np.hypot(self.down, self.right))


def measure_shift(pair: Pair, done: Callable[[float], None] = lambda part: None) -> Shift:
    """Compare both dates in blocks over the whole overlap.

    Args:
        done: told after every block which part is done.
    """
    found = []
    windows = block_windows(pair.window)
    for number, window in enumerate(windows):
        row, column, height, width = window
        wide = Window(row - MARGIN, column - MARGIN, height + 2 * MARGIN, width + 2 * MARGIN)
        before_CHW, after_CHW, *valid_2HW = pair.read_dates(wide)
        if (valid_2HW[0] & valid_2HW[1])[MARGIN:-MARGIN, MARGIN:-MARGIN].mean() >= VALID:
            gradients = _gradients(_few(before_CHW), valid_2HW[0]), _gradients(_few(after_CHW), valid_2HW[1])
            down, right, quality = _compare(*gradients)
            found.append(BlockShift(row + height / 2, column + width / 2, down, right, quality))
        done((number + 1) / len(windows))
    return judge(found)


def judge(blocks: Sequence[BlockShift]) -> Shift:
    """Take the median of the blocks that count, if these are enough and agree."""
    counting = [block for block in blocks if block.counts]
    if not counting:
        return Shift("unknown", 0.0, 0.0, float("inf"), 0, tuple(blocks), "no peak" if blocks else "no block")
    shifts_N2 = np.array([(block.down, block.right) for block in counting])
    down, right = (float(value) for value in np.median(shifts_N2, axis=0))
    spread = float(np.median(np.hypot(*(shifts_N2 - (down, right)).T)))
    if doubt := _doubt(len(counting), len(blocks), spread):
        return Shift("unknown", 0.0, 0.0, spread, len(counting), tuple(blocks), doubt)
    verdict: Verdict = "shifted" if np.hypot(down, right) > SMALLEST else "aligned"
    return Shift(verdict, down, right, spread, len(counting), tuple(blocks))


def _doubt(counted: int, blocks: int, spread: float) -> Doubt:
    """Say why blocks of which some count tell no shift; nothing where they do."""
    if blocks < FEWEST:
        return "one block"
    if counted < max(FEWEST, SHARE * blocks):
        return "few blocks"
    return "blocks disagree" if spread >= SPREAD else ""


def block_windows(window: Window) -> list[Window]:
    """Lay blocks over a window, half overlapping where it is small enough; none where it is too small for one."""
    height, width = min(BLOCK, window.height), min(BLOCK, window.width)
    if min(height, width) < SMALLEST_BLOCK:
        return []
    step = STEP
    while len(range(0, window.height - height + 1, step)) * len(range(0, window.width - width + 1, step)) > MOST_BLOCKS:
        step += STEP
    rows, columns = _starts(window.height, height, step), _starts(window.width, width, step)
    return [Window(window.row + row, window.column + column, height, width) for row in rows for column in columns]


def _compare(before_CHW: np.ndarray, after_CHW: np.ndarray) -> tuple[float, float, float]:
    """Return down, right and quality from the gradients of a block."""
    hann_HW = np.outer(*(np.hanning(side + 2)[1:-1] for side in before_CHW.shape[1:]))
    spectra = [fft.fft2(gradient_CHW * hann_HW) for gradient_CHW in (before_CHW, after_CHW)]
    cross_CHW = spectra[1] * np.conj(spectra[0])
    weight_C11 = np.abs(cross_CHW).sum((1, 2), keepdims=True)
    cross_HW = (cross_CHW / np.maximum(weight_C11, 1e-30)).sum(0)
    size_HW = np.abs(cross_HW)
    if not size_HW.max() > 0:
        return 0.0, 0.0, 0.0
    row_frequencies, column_frequencies = (fft.fftfreq(side) for side in cross_HW.shape)
    low_HW = np.exp(-0.5 * (row_frequencies[:, None] ** 2 + column_frequencies**2) / CUTOFF**2)
    white_HW = cross_HW / np.maximum(size_HW, 1e-9 * size_HW.max()) * low_HW
    surface_HW = np.abs(fft.ifft2(white_HW).real)  # where contrast is reversed the peak is negative
    place = np.unravel_index(np.argmax(surface_HW), surface_HW.shape)
    quality = float(surface_HW[place] / np.sqrt(np.square(surface_HW).mean()))
    row, column = (
        int(at) - side if at > side // 2 else int(at) for at, side in zip(place, surface_HW.shape, strict=True)
    )
    return (*_refine(white_HW, row, column), quality)


def _refine(spectrum_HW: np.ndarray, row: int, column: int) -> tuple[float, float]:
    """Look for the peak around a pixel in finer steps."""
    steps = np.arange(-FINER, FINER + 1) / FINER
    rows, columns = row + steps, column + steps
    row_frequencies, column_frequencies = (fft.fftfreq(side) for side in spectrum_HW.shape)
    down = np.exp(2j * np.pi * np.outer(rows, row_frequencies))
    right = np.exp(2j * np.pi * np.outer(column_frequencies, columns))
    surface = np.abs((down @ spectrum_HW @ right).real)
    at = np.unravel_index(np.argmax(surface), surface.shape)
    return float(rows[at[0]]), float(columns[at[1]])


def _gradients(pixels_CHW: np.ndarray, valid_HW: np.ndarray) -> np.ndarray:
    """Return gradients as complex numbers, right and down, without the margin; they fade out towards invalid pixels.

    Each date has its own mask: one for both would be seen at the same place on both, and say that nothing moved.
    """
    inside = slice(MARGIN, -MARGIN), slice(MARGIN, -MARGIN)
    if not valid_HW.all():
        mean_C11 = pixels_CHW[:, valid_HW].mean(1)[:, None, None]
        pixels_CHW = np.where(valid_HW, pixels_CHW, mean_C11)
    spread = (0, SIGMA, SIGMA)
    right_CHW = ndimage.gaussian_filter(pixels_CHW, spread, (0, 0, 1), mode="nearest")
    down_CHW = ndimage.gaussian_filter(pixels_CHW, spread, (0, 1, 0), mode="nearest")
    gradient_CHW = (right_CHW + 1j * down_CHW)[(slice(None), *inside)]
    if valid_HW.all():
        return np.asarray(gradient_CHW)
    weight_HW = _weight(valid_HW)[inside]
    mean_C11 = (gradient_CHW * weight_HW).sum((1, 2), keepdims=True) / max(weight_HW.sum(), 1e-12)
    return np.asarray((gradient_CHW - mean_C11) * weight_HW)


def _weight(valid_HW: np.ndarray) -> np.ndarray:
    """Return weights that fall to 0 slowly, as a hard edge would be seen."""
    usable_HW = ndimage.minimum_filter(valid_HW, 2 * MARGIN - 1, mode="nearest")
    distance_HW = ndimage.distance_transform_edt(usable_HW)
    return np.asarray(np.sin(np.pi / 2 * np.minimum(distance_HW / TAPER, 1)) ** 2)


def _few(pixels_CHW: np.ndarray) -> np.ndarray:
    """Take a few bands, evenly spread."""
    bands = len(pixels_CHW)
    return np.asarray(pixels_CHW[np.unique(np.linspace(0, bands - 1, min(bands, MOST_BANDS)).round().astype(int))])


def _starts(size: int, block: int, step: int) -> range:
    """Spread starts over an axis, with what is left over shared by both ends."""
    count = (size - block) // step + 1
    first = (size - block - (count - 1) * step) // 2
    return range(first, first + count * step, step)
