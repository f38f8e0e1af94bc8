"""Draws windows from a collection at random, each at several dates where there are some.

A batch depends on the seed and its index alone: training resumes anywhere, and threads do not change it. A window lies
on the pixels of the raster it is drawn from, its anchor; other dates are warped onto them.
Shape letters: N windows, T dates, C bands, H rows, W columns, E entries.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rsfm.errors import UserError
from rsfm.raster.class_shares import ClassShares
from rsfm.raster.collection import Entry
from rsfm.raster.common_bands import common_bands
from rsfm.raster.entry_raster import EntryRaster
from rsfm.raster.grid import Window
from rsfm.raster.held_out import HeldOut
from rsfm.raster.open_files import OpenFiles
from rsfm.raster.reader import Raster, short_name
from rsfm.raster.resampled import Resampled
from rsfm.raster.same_place import Box, SamePlace
from rsfm.raster.sampling_config import SamplingConfig
from rsfm.raster.spot import Spot, overlap, spot
from rsfm.raster.timeline import Timeline
from rsfm.raster.window_rules import judge

TRIES = 1000
"""Windows drawn in place of refused ones, before giving up."""
ALONE_TRIES = 16
"""Windows drawn in place of one that has no other date, or that shows the ground of another one of the batch."""
NOWHERE = (0.0, 0.0, 0.0, 0.0)
DATE_TRIES = 8
"""Dates read in place of one that cannot be used."""
REFUSED = {
    "nodata": "had too much nodata",
    "cloud": "were too cloudy",
    "flat": "held a single value",
    "held out": "lay on the wrong side of held-out blocks",
    "class": "were of another class",
}


class Windows(NamedTuple):
    """A batch.

    Attributes:
        pixels_NTCHW: float32, in units, 0 where invalid; the first date is the anchor's.
        valid_NTHW: bool; all False at dates that a window lacks.
        gsd_N: float32, metres a pixel at the window's centre.
        time_NT3: int64, year - 2002, month - 1, hour in UTC; the anchor's where a date lacks.
        place_N2: latitude and longitude of the centre in degrees.
        entry_NT: the entries read, -1 where a date lacks.
    """

    pixels_NTCHW: np.ndarray
    valid_NTHW: np.ndarray
    gsd_N: np.ndarray
    time_NT3: np.ndarray
    place_N2: np.ndarray
    entry_NT: np.ndarray


class _Draw(NamedTuple):
    """A window: its anchor, where it lies there and on the ground, and the entries that may show it on other dates."""

    entry: int
    window: Window
    spot: Spot
    others: np.ndarray


class _Slot:
    """The place of a window in a batch, with its own random numbers, so that one does not change the next."""

    def __init__(self, seed: tuple[int, ...], class_shares: ClassShares | None) -> None:
        self.random = np.random.default_rng(seed)
        self.class_number = None if class_shares is None else class_shares.choose(self.random)
        self.refused: Counter[str] = Counter()
        self.alone = self.crowded = 0


class CollectionSampler:
    """Draws windows uniformly over the pixels of all entries, or by class, and refuses those that break a rule.

    Attributes:
        entries, areas: that are large enough for a window, and where windows may lie.
        rasters: of the entries, opened when they are read.
        bands, band_names: common to all entries.
        windows: that cover all entries once.
        notes: what the user should know, in sentences.
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        size: int,
        rules: SamplingConfig | None = None,
        areas: Sequence[Window] | None = None,
        seed: int = 0,
        files: OpenFiles | None = None,
        validation: bool = False,
    ) -> None:
        """Plan from what the entries say; hardly a file is opened.

        Args:
            size: side of a window in pixels.
            areas: where windows may lie, one an entry; None is everywhere.
            validation: draw windows that lie in held-out blocks as a whole, instead of those that touch none.

        Raises:
            UserError: no entry is as large as a window, bands do not fit, or dates are malformed.
        """
        self.size, self.seed, self.rules = size, seed, rules or SamplingConfig()
        areas = areas or [Window(0, 0, entry.height, entry.width) for entry in entries]
        large = [number for number, area in enumerate(areas) if min(area.height, area.width) >= size]
        _check_any(entries, areas, large, size)
        self.entries = [entries[number] for number in large]
        self.areas = [areas[number] for number in large]
        self.files = files or OpenFiles()
        found = common_bands(self.entries)
        self.rasters = [
            EntryRaster(entry, self.files, numbers, found.names)
            for entry, numbers in zip(self.entries, found.numbers, strict=True)
        ]
        self.bands, self.band_names = self.rasters[0].bands, self.rasters[0].band_names
        self._timeline = Timeline(self.entries, self.rules.min_gap_days)
        self._places = SamePlace(self.entries)
        pixels_E = np.array([area.height * area.width for area in self.areas], np.float64)
        self.windows = max(1, int(pixels_E.sum() / size**2))
        self._edges = np.cumsum(pixels_E / pixels_E.sum())[:-1]
        self._validation = validation
        self._held_out = HeldOut(self.rules.held_out, self.rules.held_out_block, seed)
        self._classes = self._class_shares()
        self.notes = self._take_notes(len(entries) - len(large), found.left_out)

    def check_dates(self, timed: bool) -> bool:
        """Make sure that windows can be read at several dates, and tell whether any raster has another date.

        Args:
            timed: the dates themselves are learned from, and must be known.

        Raises:
            UserError: pixel sizes of the same place differ too much, or a date is not known.
        """
        self._places.check_pixel_sizes()
        unknown = np.flatnonzero(~self._timeline.known_E)
        if timed and len(unknown):
            raise UserError(
                f"The date of {len(unknown)} of {len(self.entries)} rasters is not known "
                f"('{short_name(self.entries[unknown[0]].path)}'), and this method learns from dates. Fill them in on "
                "the page Imagery, or leave these rasters out.",
                "rasters",
            )
        return any(
            len(self._others(number, self.entries[number].footprint or NOWHERE)) for number in range(len(self.entries))
        )

    def batch(self, index: int, count: int, dates: int = 1) -> Windows:
        """Draw the windows of batch `index`.

        Args:
            dates: T, read of each window at most.

        Raises:
            UserError: hardly any window passes the rules, or a raster is absent or damaged.
        """
        slots = [_Slot((self.seed, index, number), self._classes) for number in range(count)]
        found = _empty(count, dates, self.bands, self.size)
        drawn: list[_Draw | None] = [None] * count
        for number, slot in enumerate(slots):
            full = number > 0 and slots[number - 1].crowded == ALONE_TRIES
            slot.crowded = ALONE_TRIES if full else 0  # the ground of the rasters is used up
            taken = [draw.spot.box for draw in drawn[:number] if draw is not None]
            drawn[number] = self._fill(slot, taken, Windows(*(part[number] for part in found)))
        for number, draw in enumerate(drawn):
            if draw is not None:
                found.gsd_N[number] = draw.spot.gsd
                found.place_N2[number] = draw.spot.latitude, draw.spot.longitude
        return found

    def places(self, count: int) -> np.ndarray:
        """Return latitude and longitude of the centres of at most `count` windows, places_N2, each place once.

        No pixel is read. Windows in the same square of the size of a window are one place.
        """
        slot = _Slot((self.seed, 2**32), None)
        spots = [self._draw_uniformly(slot.random) for _ in range(count)]
        squares: dict[tuple[int, int], tuple[float, float]] = {}
        for entry, window in spots:
            found = spot(self.rasters[entry].grid, window)
            side = max(found.box[3] - found.box[1], 1e-9)
            if np.isfinite(found.latitude):
                across = side / max(np.cos(np.radians(found.latitude)), 1e-3)
                square = (round(found.latitude / side), round(found.longitude / float(across)))
                squares.setdefault(square, (found.latitude, found.longitude))
        return np.array(list(squares.values()), np.float64).reshape(-1, 2)

    def close(self) -> None:
        """Close the files; no batch may be under way."""
        self.files.close()

    def _fill(self, slot: _Slot, taken: list[Box], into: Windows) -> _Draw:
        """Draw until a window passes, and read it and its other dates into arrays."""
        dates = len(into.valid_NTHW)
        for _ in range(TRIES):
            draw = self._propose(slot, taken, dates)
            if draw is None:
                continue
            if not self._read(slot, draw.entry, self.rasters[draw.entry], draw.window, into, 0):
                continue
            read = self._read_dates(slot, draw, into)
            if read == 1 < dates and len(draw.others) and slot.alone < ALONE_TRIES:
                slot.alone += 1
                continue
            return draw
        raise UserError(self._complaint(slot), "window")

    def _propose(self, slot: _Slot, taken: list[Box], dates: int) -> _Draw | None:
        """Draw a window that fits by its place alone; None if it does not."""
        if self._classes is None or slot.class_number is None:
            entry, window = self._draw_uniformly(slot.random)
        else:
            entry, window = self._classes.draw(slot.random, slot.class_number, self.size)
            if not self._classes.fits(entry, window, slot.class_number):
                slot.refused["class"] += 1
                return None
        where = spot(self.rasters[entry].grid, window)
        if not self._held_out.covers(where.box) if self._validation else self._held_out.touches(where.box):
            slot.refused["held out"] += 1
            return None
        others = self._others(entry, where.box) if dates > 1 else np.empty(0, int)
        if dates > 1 and not len(others) and slot.alone < ALONE_TRIES:
            slot.alone += 1
            return None
        if slot.crowded < ALONE_TRIES and any(overlap(where.box, box) for box in taken):
            slot.crowded += 1
            return None
        return _Draw(entry, window, where, others)

    def _draw_uniformly(self, random: np.random.Generator) -> tuple[int, Window]:
        entry = int(np.searchsorted(self._edges, random.random(), "right"))
        area = self.areas[entry]
        row, column = random.integers((area.height - self.size + 1, area.width - self.size + 1))
        return entry, Window(area.row + int(row), area.column + int(column), self.size, self.size)

    def _others(self, entry: int, box: Box) -> np.ndarray:
        """Return the entries that may show a window on another date."""
        found = self._places.find(entry, box)
        return np.asarray(found[self._timeline.apart(entry, found)])

    def _read_dates(self, slot: _Slot, draw: _Draw, into: Windows) -> int:
        """Read other dates, drawn at random, until there are enough, and return how many there are with the first."""
        others = slot.random.permutation(draw.others)
        if self.rules.other_months:
            others = others[np.argsort(self._timeline.same_month(draw.entry, others), kind="stable")]
        grid, chosen, dates = self.rasters[draw.entry].grid, [draw.entry], len(into.valid_NTHW)
        for tried, other in enumerate(int(number) for number in others):
            if len(chosen) == dates or tried == DATE_TRIES * (dates - 1):
                break
            if not all(self._timeline.apart(entry, np.array([other]))[0] for entry in chosen):
                continue
            if self._read(slot, other, Resampled(self.rasters[other], grid), draw.window, into, len(chosen)):
                chosen.append(other)
        into.entry_NT[len(chosen) :] = -1
        into.time_NT3[len(chosen) :] = into.time_NT3[0]
        into.pixels_NTCHW[len(chosen) :] = 0
        into.valid_NTHW[len(chosen) :] = False
        return len(chosen)

    def _read(self, slot: _Slot, entry: int, raster: Raster, window: Window, into: Windows, date: int) -> bool:
        """Read a window of an entry, on its own or another grid, and tell whether it passes the rules."""
        rules, cloudy_HW = self.rules, self.rasters[entry].cloudy(raster.grid, window)
        if cloudy_HW.mean() > rules.max_cloud:
            slot.refused["cloud"] += date == 0
            return False
        pixels_CHW, valid_HW = raster.read(window)
        reason = judge(pixels_CHW, valid_HW, cloudy_HW, rules.max_invalid, rules.max_cloud, rules.skip_flat)
        if reason:
            slot.refused[reason] += date == 0
            return False
        into.pixels_NTCHW[date], into.valid_NTHW[date] = pixels_CHW, valid_HW
        into.entry_NT[date], into.time_NT3[date] = entry, self._timeline.code_E3[entry]
        return True

    def _class_shares(self) -> ClassShares | None:
        path, grids = self.rules.land_cover, [raster.grid for raster in self.rasters]
        return ClassShares(path, self.rules.shares, grids, self.areas, self.size, self.files) if path else None

    def _take_notes(self, too_small: int, bands_left_out: tuple[str, ...]) -> tuple[str, ...]:
        notes = list(self._classes.notes) if self._classes else []
        if too_small:
            notes.append(f"{too_small} raster(s) are smaller than a window of {self.size} px and are left out.")
        if bands_left_out:
            notes.append(f"Only the bands that all rasters have are used; left out: {', '.join(bands_left_out)}.")
        return tuple(notes)

    def _complaint(self, slot: _Slot) -> str:
        reasons = ", ".join(f"{count} {REFUSED[reason]}" for reason, count in slot.refused.most_common())
        return (
            f"None of {TRIES} windows of {self.size} px can be used: {reasons}. Choose a smaller 'Window', or raise "
            "'Max invalid' or 'Max cloud'."
        )


def _check_any(entries: Sequence[Entry], areas: Sequence[Window], large: list[int], size: int) -> None:
    if not entries:
        raise UserError(
            "The collection holds no raster to learn from. Add some on the page Imagery, or tick those that are there.",
            "rasters",
        )
    if not large:
        number = max(range(len(entries)), key=lambda number: min(areas[number].height, areas[number].width))
        raise UserError(
            f"No raster of the collection is as large as a window of {size} px; '{short_name(entries[number].path)}' "
            f"offers {areas[number].height} x {areas[number].width} px. Choose a smaller 'Window'.",
            "window",
        )


def _empty(count: int, dates: int, bands: int, size: int) -> Windows:
    return Windows(
        np.zeros((count, dates, bands, size, size), np.float32),
        np.zeros((count, dates, size, size), bool),
        np.zeros(count, np.float32),
        np.zeros((count, dates, 3), np.int64),
        np.full((count, 2), np.nan),
        np.full((count, dates), -1),
    )
