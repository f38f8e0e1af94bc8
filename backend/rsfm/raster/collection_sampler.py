"""Draws windows from a collection at random, each at several dates where there are some.

A batch depends on the seed and its index alone: training resumes anywhere, and threads do not change it. A window lies
on the pixels of the raster it is drawn from, its anchor; other dates are warped onto them. Windows are drawn first and
then read together, so that a block of a file is decoded once for all that show it; refused ones are drawn again.
Shape letters: N windows, P windows that are proposed, Q both, T dates, C bands, H rows, W columns, E entries.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np
import rasterio

from rsfm.errors import UserError
from rsfm.raster.class_shares import ClassShares
from rsfm.raster.collection import Entry
from rsfm.raster.common_bands import common_bands
from rsfm.raster.entry_raster import EntryRaster
from rsfm.raster.entry_windows import Seen, Wanted, read_windows
from rsfm.raster.grid import Window
from rsfm.raster.held_out import HeldOut
from rsfm.raster.open_files import OpenFiles
from rsfm.raster.reader import short_name
from rsfm.raster.same_place import Box, SamePlace
from rsfm.raster.sampling_config import SamplingConfig
from rsfm.raster.spot import overlaps, spots
from rsfm.raster.timeline import Timeline
from rsfm.raster.window_batch import WHOLE, Batch, Draw, Part, Slot, Windows
from rsfm.raster.window_reader import WindowReader
from rsfm.raster.window_rules import Reason, judge

T = TypeVar("T")

TRIES = 1000
"""Windows drawn in place of refused ones, before giving up."""
ALONE_TRIES = 16
"""Windows drawn in place of one that has no other date."""
CROWDED_TRIES = 16
"""Windows in a row that show the ground of others of the batch, after which the ground counts as used up."""
FEW, FEW_TIMES = 32, 4
"""Of so few windows that wait, several are drawn at once, as each round has its own cost."""
NO_OTHERS = np.empty(0, int)
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


class CollectionSampler:
    """Draws windows uniformly over the pixels of all entries, or by class, and refuses those that break a rule.

    Attributes:
        entries, areas: that are large enough for a window, and where windows may lie.
        rasters: of the entries, opened when they are read.
        files, reader: open and read them.
        bands, band_names: common to all entries.
        windows: that cover all entries once.
        notes: what the user should know, in sentences.
        held_out: says which ground is held out.
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        size: int,
        rules: SamplingConfig | None = None,
        areas: Sequence[Window] | None = None,
        seed: int = 0,
        like: "CollectionSampler | None" = None,
        validation: bool = False,
    ) -> None:
        """Plan from what the entries say; hardly a file is opened.

        Args:
            size: side of a window in pixels.
            areas: where windows may lie, one an entry; None is everywhere.
            like: a sampler whose files and threads it shares, and which is closed instead of it.
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
        self.files: OpenFiles = like.files if like else OpenFiles()
        found = common_bands(self.entries)
        self.rasters = [
            EntryRaster(entry, self.files, numbers, found.names)
            for entry, numbers in zip(self.entries, found.numbers, strict=True)
        ]
        self.bands, self.band_names = self.rasters[0].bands, self.rasters[0].band_names
        self._timeline = Timeline(self.entries, self.rules.min_gap_days)
        self._places = SamePlace(self.entries)
        pixels_E = np.array([area.height * area.width for area in self.areas], np.float64)
        bytes_E = [np.dtype(entry.dtype).itemsize * self.bands for entry in self.entries]
        self.reader: WindowReader = like.reader if like else WindowReader.of(int(pixels_E @ bytes_E))
        self.windows = max(1, int(pixels_E.sum() / size**2))
        self._edges: list[float] = np.cumsum(pixels_E / pixels_E.sum())[:-1].tolist()
        self._validation = validation
        self._check_blocks()
        self.held_out = HeldOut(self.rules.held_out, self.rules.held_out_block, seed)
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

    def batch(self, index: int, count: int, dates: int = 1, part: Part = WHOLE) -> Windows:
        """Draw the windows of batch `index`, and read those of a part.

        Args:
            count: of windows in the whole batch.
            dates: T, read of each window at most.
            part: of the batch that is read here; the windows are those of the whole batch.

        Returns:
            The windows of the part.

        Raises:
            UserError: hardly any window passes the rules, or a raster is absent or damaged.
        """
        with rasterio.Env():  # or each projection makes one
            return self._batch(index, count, dates, part)

    def _batch(self, index: int, count: int, dates: int, part: Part) -> Windows:
        slots = [Slot((self.seed, index, number), self._classes) for number in range(count)]
        batch = Batch(slots, dates, self.bands, self.size)
        mine, waiting, turn = part.rows(count), list(range(count)), 0
        while waiting:
            draws = self._propose(batch, waiting, dates)
            about = (self._validation, index, turn)
            refused = part.exchange((*about, "anchor"), self._read_anchors(batch, _of(draws, mine)))
            for number, reason in refused.items():
                slots[number].refused[reason] += 1
                batch.taken_N[number] = False
                del draws[number]
            others = {number: iter(self._order(slots[number], draw, dates)) for number, draw in draws.items()}
            alone = self._read_dates(batch, _of(draws, mine), _of(others, mine))
            for number in part.exchange((*about, "dates"), alone) if dates > 1 else ():
                slots[number].alone += 1
                batch.taken_N[number] = False
            waiting, turn = [number for number in waiting if not batch.taken_N[number]], turn + 1
        return batch.of(mine)

    def places(self, count: int) -> np.ndarray:
        """Return latitude and longitude of the centres of at most `count` windows, places_N2, each place once.

        No pixel is read. Windows in the same square of the size of a window are one place.
        """
        slot = Slot((self.seed, 2**32), None)
        drawn = [self._draw_uniformly(slot.random) for _ in range(count)]
        squares: dict[tuple[int, int], tuple[float, float]] = {}
        for found in spots([(self.rasters[entry].grid, window) for entry, window in drawn]):
            side = max(found.box[3] - found.box[1], 1e-9)
            if np.isfinite(found.latitude):
                across = side / max(np.cos(np.radians(found.latitude)), 1e-3)
                square = (round(found.latitude / side), round(found.longitude / float(across)))
                squares.setdefault(square, (found.latitude, found.longitude))
        return np.array(list(squares.values()), np.float64).reshape(-1, 2)

    def close(self) -> None:
        """End the threads that read and close the files; no batch may be under way."""
        self.reader.close()
        self.files.close()

    def _propose(self, batch: Batch, waiting: Sequence[int], dates: int) -> dict[int, Draw]:
        """Draw a window for each of some slots that fits by its place alone, and take its ground."""
        draws: dict[int, Draw] = {}
        while waiting:
            times = 1 if len(waiting) > FEW else FEW_TIMES
            drawn = [(number, self._draw(batch.slots[number])) for number in waiting for _ in range(times)]
            found = [(number, *place) for number, place in drawn if place is not None]
            where = spots([(self.rasters[entry].grid, window) for _, entry, window in found])
            boxes_P4 = np.array([spot.box for spot in where]).reshape(-1, 4)
            shared_PQ = overlaps(boxes_P4, np.concatenate([boxes_P4, batch.boxes_N4]))
            taken_Q = np.concatenate([np.zeros(len(found), bool), batch.taken_N])
            for row, ((number, entry, window), spot) in enumerate(zip(found, where, strict=True)):
                if number in draws:
                    continue
                crowded = bool((shared_PQ[row] & taken_Q).any())
                draw = self._place(batch, number, Draw(entry, window, spot, NO_OTHERS), crowded, dates)
                if draw is not None:
                    draws[number], taken_Q[row], batch.crowded = draw, True, 0
                    batch.boxes_N4[number], batch.taken_N[number] = spot.box, True
            waiting = [number for number in waiting if number not in draws]
        return draws

    def _draw(self, slot: Slot) -> tuple[int, Window] | None:
        """Draw an entry and a window of it; None if it is of another class than the slot's."""
        if self._classes is None or slot.class_number is None:
            return self._draw_uniformly(slot.random)
        entry, window = self._classes.draw(slot.random, slot.class_number, self.size)
        if self._classes.fits(entry, window, slot.class_number):
            return entry, window
        self._count(slot)
        slot.refused["class"] += 1
        return None

    def _count(self, slot: Slot) -> None:
        """Count a try.

        Raises:
            UserError: there were too many.
        """
        slot.tries += 1
        if slot.tries > TRIES:
            raise UserError(self._complaint(slot), "window")

    def _place(self, batch: Batch, number: int, draw: Draw, crowded: bool, dates: int) -> Draw | None:
        """Add the other dates to a draw; None if it does not fit by its place.

        Args:
            crowded: it would share the ground of another window.
        """
        slot, box = batch.slots[number], draw.spot.box
        self._count(slot)
        if not self.held_out.covers(box) if self._validation else self.held_out.touches(box):
            slot.refused["held out"] += 1
            return None
        if dates > 1:
            draw = draw._replace(others=self._others(draw.entry, box))
            if not len(draw.others) and slot.alone < ALONE_TRIES:
                slot.alone += 1
                return None
        if crowded and not batch.full:
            batch.crowded += 1
            batch.full = batch.crowded == CROWDED_TRIES
            return None
        return draw

    def _read_anchors(self, batch: Batch, draws: dict[int, Draw]) -> dict[int, Reason]:
        """Read the first date of windows, and tell which break a rule and why."""
        wanted = [
            Wanted(self.rasters[draw.entry], self.rasters[draw.entry].grid, draw.window) for draw in draws.values()
        ]
        numbers, refused = list(draws), dict[int, Reason]()
        for index, seen in read_windows(self.reader, wanted, self.rules.max_cloud):
            number = numbers[index]
            reason = self._judge(seen)
            if reason or seen is None:
                refused[number] = reason
                continue
            entry = draws[number].entry
            batch.put(number, 0, entry, seen, self._timeline.code_E3[entry])
        return refused

    def _judge(self, seen: Seen | None) -> Reason:
        rules = self.rules
        return "cloud" if seen is None else judge(*seen, rules.max_invalid, rules.max_cloud, rules.skip_flat)

    def _read_dates(self, batch: Batch, draws: dict[int, Draw], others: dict[int, Iterator[int]]) -> dict[int, Reason]:
        """Read other dates, in their order, until there are enough; returns windows that have none and may be drawn
        again.
        """
        dates = batch.into.valid_NTHW.shape[1]
        chosen = {number: [draw.entry] for number, draw in draws.items()}
        while others:
            found = {number: self._next(others[number], chosen[number]) for number in others}
            tried = {number: other for number, other in found.items() if other is not None}
            wanted = [
                Wanted(self.rasters[other], self.rasters[draws[number].entry].grid, draws[number].window)
                for number, other in tried.items()
            ]
            numbers = list(tried)
            for index, seen in read_windows(self.reader, wanted, self.rules.max_cloud):
                number = numbers[index]
                if seen is not None and not self._judge(seen):
                    other = tried[number]
                    batch.put(number, len(chosen[number]), other, seen, self._timeline.code_E3[other])
                    chosen[number].append(other)
            others = {number: others[number] for number in tried if len(chosen[number]) < dates}
        for number, entries in chosen.items():
            batch.end_dates(number, len(entries))
            batch.into.gsd_N[number] = draws[number].spot.gsd
            batch.into.place_N2[number] = draws[number].spot.latitude, draws[number].spot.longitude
            batch.into.corner_N2[number] = draws[number].window.row, draws[number].window.column
        return {
            number: ""
            for number, draw in draws.items()
            if len(chosen[number]) == 1 < dates and len(draw.others) and batch.slots[number].alone < ALONE_TRIES
        }

    def _order(self, slot: Slot, draw: Draw, dates: int) -> list[int]:
        """Return the other dates of a window in the order in which they are tried; none if only one is wanted."""
        if dates == 1:
            return []
        others = slot.random.permutation(draw.others)
        if self.rules.other_months:
            others = others[np.argsort(self._timeline.same_month(draw.entry, others), kind="stable")]
        return [int(other) for other in others[: DATE_TRIES * (dates - 1)]]

    def _next(self, others: Iterator[int], chosen: list[int]) -> int | None:
        """Return the next entry that is a date apart from those chosen."""
        return next((o for o in others if all(self._timeline.apart(entry, np.array([o]))[0] for entry in chosen)), None)

    def _draw_uniformly(self, random: np.random.Generator) -> tuple[int, Window]:
        entry = bisect_right(self._edges, random.random())
        area = self.areas[entry]
        row = area.row + int(random.integers(area.height - self.size + 1))
        column = area.column + int(random.integers(area.width - self.size + 1))
        return entry, Window(row, column, self.size, self.size)

    def _others(self, entry: int, box: Box) -> np.ndarray:
        """Return the entries that may show a window on another date."""
        found = self._places.find(entry, box)
        return np.asarray(found[self._timeline.apart(entry, found)])

    def _check_blocks(self) -> None:
        side = self.size * max(raster.grid.gsd for raster in self.rasters)
        if self.rules.held_out and self.rules.held_out_block < side:
            raise UserError(
                f"A held-out block of {self.rules.held_out_block:.0f} m is smaller than a window of {self.size} px "
                f"({side:.0f} m). Choose a larger 'Held out block', or a smaller 'Window'.",
                "sampling.held_out_block",
            )

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

    def _complaint(self, slot: Slot) -> str:
        reasons = ", ".join(f"{count} {REFUSED[reason]}" for reason, count in slot.refused.most_common())
        change = "choose another 'Held out' or 'Held out block'" if self.rules.held_out else "choose other rasters"
        return (
            f"None of {TRIES} windows of {self.size} px can be used: {reasons}. Choose a smaller 'Window', raise "
            f"'Max invalid' or 'Max cloud', or {change}."
        )


def _of(values: dict[int, T], rows: range) -> dict[int, T]:
    """Keep the values of some rows."""
    return {number: value for number, value in values.items() if number in rows}


def _check_any(entries: Sequence[Entry], areas: Sequence[Window], large: list[int], size: int) -> None:
    if not entries:
        raise UserError(
            "The collection holds no raster to learn from. Add some on the page Imagery, or tick those that are there.",
            "rasters",
        )
    if not large:
        number = max(range(len(entries)), key=lambda number: min(areas[number].height, areas[number].width))
        raise UserError(
            f"No raster is as large as a window of {size} px; '{short_name(entries[number].path)}' "
            f"offers {areas[number].height} x {areas[number].width} px. Choose a smaller 'Window', or a larger 'Area'.",
            "window",
        )
