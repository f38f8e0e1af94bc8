"""Measures the bands of a collection, in the units that are learned from, and remembers what it found.

Exact by counting where all rasters hold integers of 8 or 16 bits and can be read in seconds; exact from memory where
they are small; else from a sample of file blocks spread evenly over the rasters, with standard errors. Rasters are
opened one after the other, and memory does not grow with their number or size.

Shape letters: C bands, N pixels, V values.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import rasterio
from numpy.typing import NDArray

from rsfm.errors import UserError
from rsfm.raster.band_measure import measure_counts
from rsfm.raster.block_layout import Layout, draw, lay_out
from rsfm.raster.collection import Entry
from rsfm.raster.entry_reader import open_entry
from rsfm.raster.grid import Window
from rsfm.raster.reader import control, short_name
from rsfm.raster.scaling import to_units, usable
from rsfm.raster.statistics import ENOUGH_PIXELS, Statistics, gather, measure_parts, no_valid_pixel
from rsfm.raster.statistics_cache import find, key_of, remember

CHUNK_VALUES = 2**22
"""Values, of all bands together, that are read at once."""
LEVELS = 2**24
"""Different values, of all bands and scalings together, that may be counted."""
FEWEST_BLOCKS = 128
"""Windows of a sample, below which its error could hardly be told."""
FEWEST_FILLED = 30
"""Windows with valid pixels, below which a sample goes on growing."""
FEWEST_PIXELS = 2**16
"""Pixels of a window of a sample, where file blocks are smaller."""
FIELD = "rasters"


class Budget(NamedTuple):
    """How much may be read and held.

    Attributes:
        counted: values, of all bands together, up to which integers are counted one by one.
        held: values, of all bands together, that are held in memory.
        sample: pixels of a sample.
    """

    counted: int = 2**28
    held: int = 2**25
    sample: int = 4_000_000


def collection_statistics(
    entries: Sequence[Entry],
    areas: Sequence[Window],
    seed: int,
    bands: Sequence[str] = (),
    cache: Path | None = None,
    budget: Budget | None = None,
) -> Statistics:
    """Measure the bands of a collection's entries.

    Args:
        areas: windows, one an entry; nothing outside counts.
        seed: the same seed draws the same sample.
        bands: their names, in order; none are all bands, as the files have them.
        cache: the file that remembers, which is used as long as nothing changed.

    Raises:
        UserError: no valid pixel, a file that cannot be read, or numbers of bands that differ.
    """
    budget = budget or Budget()
    settings = {"seed": seed, "bands": list(bands), "budget": budget}
    key = key_of(cache.parent, entries, areas, settings) if cache else None
    found = find(cache, key) if cache and key else None
    if found is None:
        with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="TRUE"):  # or each opening lists a folder of thousands
            parts = [_look(entry, area, bands) for entry, area in zip(entries, areas, strict=True)]
            _check_same_bands(parts)
            found = _count(parts, bands) if _countable(parts, budget) else _sample(parts, bands, seed, budget)
        if cache and key:
            remember(cache, key, found)
    return found


class _Part(NamedTuple):
    """An entry and the area to measure, with what its file told."""

    entry: Entry
    area: Window
    bands: tuple[str, ...]
    dtype: np.dtype[Any]
    block: tuple[int, int]

    @property
    def kind(self) -> tuple[Any, ...]:
        """What decides which number a stored value stands for."""
        return self.bands, self.dtype, self.entry.scale, self.entry.offset, self.entry.decibel

    @property
    def levels(self) -> int:
        return 1 << 8 * self.dtype.itemsize


class _Counts:
    """How often each stored value occurs in each band of rasters of one kind."""

    def __init__(self, part: _Part) -> None:
        self._part = part
        self._least = int(np.iinfo(part.dtype).min)
        self._count_CV = np.zeros((len(part.bands), part.levels), np.int64)

    def add(self, pixels_CHW: NDArray[Any], valid_HW: NDArray[np.bool_]) -> None:
        all_valid = bool(valid_HW.all())
        for count_V, pixels_HW in zip(self._count_CV, pixels_CHW, strict=True):
            pixels_N = pixels_HW.ravel() if all_valid else pixels_HW[valid_HW]
            if self._least:
                pixels_N = pixels_N.astype(np.intp) - self._least
            found_V = np.bincount(pixels_N)
            count_V[: len(found_V)] += found_V

    @property
    def total(self) -> int:
        """Valid pixels."""
        return int(self._count_CV[0].sum())

    def in_units(self, channel: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return the values of a band that occur, value_V, and how often, count_V."""
        count_V = self._count_CV[channel]
        stored_V = np.flatnonzero(count_V)
        pixels_11V = (stored_V + self._least).astype(self._part.dtype)[None, None]
        value_11V, _ = to_units(
            pixels_11V, np.ones((1, stored_V.size), bool), self._part.entry, self._part.bands[channel : channel + 1]
        )
        return value_11V[0, 0].astype(np.float64), count_V[stored_V]


class _Held:
    """The valid pixels of blocks, of which every second one is given up whenever they become too many."""

    def __init__(self, limit: int, seed: int) -> None:
        self.parts_CN: list[NDArray[np.float32]] = []
        self.valid = self.seen = 0
        self._limit, self._random, self._share = limit, np.random.default_rng((seed, 1)), 1.0

    def add(self, pixels_CHW: NDArray[np.float32], valid_HW: NDArray[np.bool_]) -> None:
        self.seen += valid_HW.size
        self.parts_CN.append(self._thin(pixels_CHW[:, valid_HW], self._share))
        self.valid += self.parts_CN[-1].shape[1]
        while self.valid > self._limit:
            self._share /= 2
            self.parts_CN = [self._thin(part_CN, 0.5) for part_CN in self.parts_CN]
            self.valid = sum(part_CN.shape[1] for part_CN in self.parts_CN)

    @property
    def enough(self) -> bool:
        filled = sum(part_CN.shape[1] > 0 for part_CN in self.parts_CN)
        return self.valid >= min(ENOUGH_PIXELS, self._limit) and filled >= FEWEST_FILLED

    def measure(self, pixels: int) -> Statistics:
        """Measure what is held of so many pixels."""
        return measure_parts(self.parts_CN, pixels, 1 - self._share * self.seen / pixels)

    def _thin(self, pixels_CN: NDArray[np.float32], share: float) -> NDArray[np.float32]:
        return pixels_CN if share == 1 else pixels_CN[:, self._random.random(pixels_CN.shape[1]) < share]


def _look(entry: Entry, area: Window, bands: Sequence[str]) -> _Part:
    with open_entry(entry, bands, FIELD) as reader:
        raster = reader.raster
        return _Part(entry, area.intersection(raster.grid.window), reader.bands, raster.dtype, raster.block)


def _check_same_bands(parts: list[_Part]) -> None:
    if not parts:
        raise UserError(f"There is no raster to measure. Choose some under '{control(FIELD)}'.", FIELD)
    first = parts[0]
    for part in parts[1:]:
        if len(part.bands) != len(first.bands):
            raise UserError(
                f"'{short_name(first.entry.path)}' has {len(first.bands)} bands but '{short_name(part.entry.path)}' "
                f"has {len(part.bands)}. Choose rasters with the same bands under '{control(FIELD)}'.",
                FIELD,
            )


def _countable(parts: list[_Part], budget: Budget) -> bool:
    """Tell whether all values are small integers that can be counted in little time and memory."""
    small = all(part.dtype.kind in "iu" and part.dtype.itemsize <= 2 for part in parts)
    levels = sum({part.kind: part.levels for part in parts}.values()) if small else 0
    channels = len(parts[0].bands)
    return small and levels * channels <= LEVELS and _pixels(parts) * channels <= budget.counted


def _count(parts: list[_Part], bands: Sequence[str]) -> Statistics:
    """Count the stored values of all valid pixels, then measure the units they stand for."""
    counts: dict[tuple[Any, ...], _Counts] = {}
    for part in parts:
        if part.kind not in counts:
            counts[part.kind] = _Counts(part)
        pixels = max(CHUNK_VALUES // len(part.bands), FEWEST_PIXELS)
        layout = lay_out(part.area, part.block, pixels // 2, pixels)
        with open_entry(part.entry, bands, FIELD) as reader:
            for window in layout.windows():
                pixels_CHW, valid_HW = reader.read_native(window)
                counts[part.kind].add(pixels_CHW, usable(pixels_CHW, valid_HW, part.entry, part.bands))
    total = sum(kind.total for kind in counts.values())
    if not total:
        raise no_valid_pixel([short_name(part.entry.path) for part in parts], FIELD)
    measures = []
    for channel in range(len(parts[0].bands)):
        columns = zip(*(kind.in_units(channel) for kind in counts.values()), strict=True)
        measures.append(measure_counts(*(np.concatenate(column) for column in columns)))
    return gather(measures, total, _pixels(parts), "exact")


def _sample(parts: list[_Part], bands: Sequence[str], seed: int, budget: Budget) -> Statistics:
    """Measure blocks spread evenly, four times as many whenever too few of their pixels are valid; all, if few."""
    channels, pixels = len(parts[0].bands), _pixels(parts)
    most = max(CHUNK_VALUES // channels, FEWEST_PIXELS)
    layouts = [lay_out(part.area, part.block, FEWEST_PIXELS, most) for part in parts]
    blocks, limit = sum(layout.size for layout in layouts), budget.held // channels
    count = blocks
    if pixels > limit:
        limit = max(min(limit, budget.sample), 1)
        count = min(max(blocks * limit // pixels, FEWEST_BLOCKS), blocks)
    while True:
        held = _hold(parts, layouts, draw(layouts, count, seed), bands, _Held(limit, seed))
        if held.enough or count == blocks:
            break
        count = min(count * 4, blocks)
    if not held.valid:
        raise no_valid_pixel([short_name(part.entry.path) for part in parts], FIELD)
    return held.measure(pixels)


def _hold(
    parts: list[_Part], layouts: list[Layout], drawn: list[list[int]], bands: Sequence[str], held: _Held
) -> _Held:
    for part, layout, numbers in zip(parts, layouts, drawn, strict=True):
        if numbers:
            with open_entry(part.entry, bands, FIELD) as reader:
                for number in numbers:
                    pixels_CHW, valid_HW = reader.read_native(layout.window(number))
                    held.add(*to_units(pixels_CHW, valid_HW, part.entry, part.bands))
    return held


def _pixels(parts: list[_Part]) -> int:
    return sum(part.area.height * part.area.width for part in parts)
