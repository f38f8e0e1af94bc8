"""Draws windows from rasters at random, for training.

A batch depends on the seed and its index alone: training resumes anywhere, and threads do not change it. Small rasters
are decoded once and kept; the windows of larger ones are read together, so that a block is decoded once for all.
Shape letters: N windows, C bands, H rows, W columns.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from rsfm.errors import UserError
from rsfm.raster.grid import Window
from rsfm.raster.reader import Raster, as_float, check_has_valid_pixels, control
from rsfm.raster.statistics import check_same_bands
from rsfm.raster.validity import probes
from rsfm.raster.window_reader import Request, WindowReader

TRIES = 1000
"""Windows drawn in place of one with too much nodata, before giving up."""
MEMORY = 512 * 2**20
"""Bytes of decoded pixels that are kept; of rasters beyond it, the blocks used last."""


LEAST_MEMORY = 64 * 2**20
"""Bytes of decoded blocks that are kept when small rasters have taken the rest."""


class _Place(NamedTuple):
    """A raster, the part of it to draw from, pixels_CHW and valid_HW if they are kept, and the share that is valid."""

    raster: Raster
    area: Window
    kept: tuple[np.ndarray, np.ndarray] | None
    share: float


class _Draw(NamedTuple):
    """A window of a raster, and which one of the batch it is to be."""

    number: int
    place: _Place
    window: Window


class WindowSampler:
    """Draws windows uniformly over the valid area of all rasters, and refuses those with too much nodata.

    The rasters stay the caller's, who closes them.
    """

    def __init__(
        self,
        rasters: Sequence[Raster],
        size: int,
        areas: Sequence[Window] | None = None,
        seed: int = 0,
        max_invalid: float = 0.1,
        memory: int = MEMORY,
    ) -> None:
        """Look at the rasters; those that fit are decoded once and kept in their own type.

        Args:
            size: side of a window in pixels.
            areas: where windows may lie, one a raster; None is everywhere.
            max_invalid: share of nodata a window may have.
            memory: bytes that may be kept.

        Raises:
            UserError: a raster or area is smaller than a window, has no valid pixel, or the bands differ.
        """
        check_same_bands(rasters)
        self.size, self.seed, self.max_invalid = size, seed, max_invalid
        self._places: list[_Place] = []
        for raster, area in zip(rasters, areas or [raster.grid.window for raster in rasters], strict=True):
            _check_size(raster, area, size)
            place = _look(raster, area, memory)
            memory -= 0 if place.kept is None else place.kept[0].nbytes
            self._places.append(place)
        weights = np.array([place.share * place.area.height * place.area.width for place in self._places])
        self._edges = np.cumsum(weights / weights.sum())[:-1]
        self._reader = (
            WindowReader(max(memory, LEAST_MEMORY)) if any(place.kept is None for place in self._places) else None
        )

    def close(self) -> None:
        """End the threads that read; the rasters may be closed after this."""
        if self._reader is not None:
            self._reader.close()

    def batch(self, index: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Draw the windows of batch `index`.

        Returns:
            pixels_NCHW: float32, in the rasters' own unit, 0 where invalid.
            valid_NHW: bool.
            gsd_N: float32, metres a pixel.

        Raises:
            UserError: hardly any window has little enough nodata, or a raster is damaged.
        """
        random = np.random.default_rng((self.seed, index))
        chosen = [self._places[int(number)] for number in np.searchsorted(self._edges, random.random(count), "right")]
        bands = self._places[0].raster.bands
        pixels_NCHW = np.empty((count, bands, self.size, self.size), np.float32)
        valid_NHW = np.empty((count, self.size, self.size), bool)
        waiting = dict(enumerate(chosen))
        for attempt in range(TRIES):
            draws = [
                _Draw(number, place, self._window(place, (self.seed, index, number, attempt)))
                for number, place in waiting.items()
            ]
            for number, patch in self._read(draws):
                pixels_CHW, valid_HW = as_float(*patch)
                if np.count_nonzero(valid_HW) >= (1 - self.max_invalid) * self.size**2:
                    pixels_NCHW[number], valid_NHW[number] = pixels_CHW, valid_HW
                    del waiting[number]
            if not waiting:
                return pixels_NCHW, valid_NHW, np.array([place.raster.grid.gsd for place in chosen], np.float32)
        place = next(iter(waiting.values()))
        raise UserError(
            f"Only {place.share:.1%} of the pixels of '{place.raster.name}' are valid, so that none of {TRIES} windows "
            f"of {self.size} px had at most {self.max_invalid:.0%} of nodata. Choose a smaller 'Window', or an 'Area' "
            "with less nodata.",
            "window",
        )

    def _window(self, place: _Place, seed: tuple[int, ...]) -> Window:
        """Draw a window in the area of a raster."""
        random, area = np.random.default_rng(seed), place.area
        row, column = random.integers((area.height - self.size + 1, area.width - self.size + 1))
        return Window(area.row + int(row), area.column + int(column), self.size, self.size)

    def _read(self, draws: list[_Draw]) -> Iterator[tuple[int, tuple[np.ndarray, np.ndarray]]]:
        """Read windows, those of large rasters together; yields their numbers and pixels_CHW and valid_HW."""
        large = [draw for draw in draws if draw.place.kept is None]
        for draw in draws:
            if draw.place.kept is not None:
                row, column = draw.window.row - draw.place.area.row, draw.window.column - draw.place.area.column
                rows, columns = slice(row, row + self.size), slice(column, column + self.size)
                pixels_CHW, valid_HW = draw.place.kept
                yield draw.number, (pixels_CHW[:, rows, columns], valid_HW[rows, columns])
        if large and self._reader is not None:
            patches = self._reader.read([Request(draw.place.raster, draw.window) for draw in large])
            yield from zip((draw.number for draw in large), patches, strict=True)


def _check_size(raster: Raster, area: Window, size: int) -> None:
    whole = area == raster.grid.window
    if min(area.height, area.width) < size:
        where = f"'{raster.name}' is" if whole else f"The area on '{raster.name}' is"
        change = f"or a larger raster under '{control(raster.field)}'" if whole else "or draw a larger 'Area'"
        raise UserError(
            f"{where} {area.height} x {area.width} px, smaller than a window of {size} px. Choose a smaller 'Window', "
            f"{change}.",
            raster.field if whole else "area",
        )


def _look(raster: Raster, area: Window, memory: int) -> _Place:
    """Keep the pixels of a small raster; of a large one, estimate the share that is valid."""
    if raster.bands * area.height * area.width * raster.dtype.itemsize <= memory:
        pixels_CHW, valid_HW = raster.read_native(area)
        share = float(valid_HW.mean())
        if share == 0:
            raise UserError(
                f"'{raster.name}' has no valid pixel in the area. Choose another raster under "
                f"'{control(raster.field)}', or another 'Area'.",
                raster.field,
            )
        return _Place(raster, area, (pixels_CHW, valid_HW), share)
    check_has_valid_pixels(raster)
    share = float(np.mean([raster.read_native(part)[1].mean() for part in probes(area, count=8)]))
    return _Place(raster, area, None, max(share, 1e-3))
