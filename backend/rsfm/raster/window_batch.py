"""A batch of windows while it is drawn and read.

Shape letters: N windows, T dates, C bands, H rows, W columns.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from rsfm.raster.class_shares import ClassShares
from rsfm.raster.entry_windows import Seen
from rsfm.raster.grid import Window
from rsfm.raster.spot import Spot
from rsfm.raster.window_rules import Reason


class Windows(NamedTuple):
    """A batch.

    Attributes:
        pixels_NTCHW: float32, in units, 0 where invalid; the first date is the anchor's.
        valid_NTHW: bool; all False at dates that a window lacks.
        gsd_N: float32, metres a pixel at the window's centre.
        time_NT3: int64, year - 2002, month - 1, hour in UTC; the anchor's where a date lacks.
        place_N2: latitude and longitude of the centre in degrees.
        entry_NT: the entries read, -1 where a date lacks.
        corner_N2: row and column of the window in the anchor's raster.
    """

    pixels_NTCHW: np.ndarray
    valid_NTHW: np.ndarray
    gsd_N: np.ndarray
    time_NT3: np.ndarray
    place_N2: np.ndarray
    entry_NT: np.ndarray
    corner_N2: np.ndarray


class Draw(NamedTuple):
    """A window: its anchor, where it lies there and on the ground, and the entries that may show it on other dates."""

    entry: int
    window: Window
    spot: Spot
    others: np.ndarray


Exchange = Callable[[tuple[Any, ...], dict[int, Reason]], dict[int, Reason]]
"""Tells the others, in words that name the moment, which windows are refused here, and returns what all refuse."""


def _nobody_else(_: tuple[Any, ...], refused: dict[int, Reason]) -> dict[int, Reason]:
    return refused


class Part(NamedTuple):
    """Which windows of a batch are read here, when several processes share it: contiguous ones, as many each."""

    number: int = 0
    parts: int = 1
    exchange: Exchange = _nobody_else

    def rows(self, windows: int) -> range:
        """Return the numbers of the windows that are read here."""
        return range(self.number * windows // self.parts, (self.number + 1) * windows // self.parts)


WHOLE = Part()


class Slot:
    """The place of a window in a batch, with its own random numbers, so that one does not change the next."""

    def __init__(self, seed: tuple[int, ...], class_shares: ClassShares | None) -> None:
        self.random = np.random.default_rng(seed)
        self.class_number = None if class_shares is None else class_shares.choose(self.random)
        self.refused: Counter[str] = Counter()
        self.tries = self.alone = 0


class Batch:
    """Slots, what was read for them, and the ground they take, boxes_N4 in degrees where taken_N."""

    def __init__(self, slots: list[Slot], dates: int, bands: int, size: int) -> None:
        self.slots, self.into = slots, _empty(len(slots), dates, bands, size)
        self.boxes_N4 = np.full((len(slots), 4), np.nan)
        self.taken_N = np.zeros(len(slots), bool)
        self.crowded, self.full = 0, False

    def put(self, number: int, date: int, entry: int, seen: Seen, time_3: np.ndarray) -> None:
        self.into.pixels_NTCHW[number, date], self.into.valid_NTHW[number, date] = seen[:2]
        self.into.entry_NT[number, date], self.into.time_NT3[number, date] = entry, time_3

    def of(self, rows: range) -> Windows:
        """Return some of the windows."""
        return Windows(*(values_N[rows.start : rows.stop] for values_N in self.into))

    def end_dates(self, number: int, first: int) -> None:
        """Leave the dates of a window empty from the `first` on."""
        into = self.into
        into.entry_NT[number, first:], into.time_NT3[number, first:] = -1, into.time_NT3[number, 0]
        into.pixels_NTCHW[number, first:], into.valid_NTHW[number, first:] = 0, False


def _empty(count: int, dates: int, bands: int, size: int) -> Windows:
    return Windows(
        np.zeros((count, dates, bands, size, size), np.float32),
        np.zeros((count, dates, size, size), bool),
        np.zeros(count, np.float32),
        np.zeros((count, dates, 3), np.int64),
        np.full((count, 2), np.nan),
        np.full((count, dates), -1),
        np.full((count, 2), -1),
    )
