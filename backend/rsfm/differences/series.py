"""Opens rasters of one place in the order of their dates, all on the grid of the earliest.

Shape letters: H rows, W columns.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import reduce
from typing import NamedTuple

import numpy as np
from rasterio.warp import transform_bounds

from rsfm.differences.series_config import SeriesConfig
from rsfm.errors import UserError
from rsfm.raster.collection import Entry
from rsfm.raster.common_bands import common_bands
from rsfm.raster.dates import DAY, known_date
from rsfm.raster.entry_raster import EntryRaster, entry_grid
from rsfm.raster.gather import gather
from rsfm.raster.grid import Grid, Window, parse_area, parse_bounds
from rsfm.raster.kept_windows import KeptRaster, KeptWindows
from rsfm.raster.open_files import OpenFiles
from rsfm.raster.pair import Pair, shared_window
from rsfm.raster.pair_sample import with_margin
from rsfm.raster.reader import short_name
from rsfm.raster.several import GATHERED
from rsfm.runs import Run

FEWEST_DATES = 3
KEPT = 3
"""Windows in memory: of a date, of the one before, and of one that stands in where that is missing."""


class Series(NamedTuple):
    """Rasters of one place.

    Attributes:
        entries: what is known of them, the earliest first.
        rasters: on the grid of the earliest, in the same order.
        window: what all of them cover, in pixels of that grid.
        area: the part of it that is asked for.
    """

    entries: tuple[Entry, ...]
    rasters: tuple[KeptRaster, ...]
    window: Window
    area: Window

    @property
    def grid(self) -> Grid:
        return self.rasters[0].grid

    def day(self, number: int) -> str:
        """Return the date of a raster, "2015-07-11" or as much of it as is known."""
        return day_of(self.entries[number])

    def pair(self, before: int, after: int) -> Pair:
        """Return two of the dates, with all that the series covers as their overlap."""
        return Pair(self.rasters[before], self.rasters[after], self.window, [])

    def strips(self) -> Iterator[Window]:
        """Cut the area into strips of whole rows, from top to bottom."""
        return self.pair(0, 1).strips(self.area)

    def valid(self, number: int, strip: Window) -> np.ndarray:
        """Tell which pixels of a strip a date has, valid_HW; it is read with what smoothing needs around it."""
        around = with_margin(strip)
        row, column = strip.row - around.row, strip.column - around.column
        _, valid_HW = self.rasters[number].read(around)
        return valid_HW[row : row + strip.height, column : column + strip.width]


def day_of(entry: Entry) -> str:
    return known_date(entry)[:DAY]


@contextmanager
def open_series(config: SeriesConfig, area: str | None, run: Run) -> Iterator[Series]:
    """Find the rasters, order them by their dates, and open them.

    Args:
        area: "west,south,east,north" in the CRS of the first raster that is named; None is all that they share.

    Raises:
        UserError: there are fewer than three dates, a date is not known or comes twice, or the rasters share no ground
            or no band.
    """
    found = _find(config, run)
    entries = sorted(found, key=lambda entry: (entry.date or "", entry.path))
    names, numbers, left_out = common_bands(entries)
    _check_bands(entries, left_out, run)
    files, kept = OpenFiles(), KeptWindows(KEPT)
    try:
        rasters = [EntryRaster(entry, files, own, names) for entry, own in zip(entries, numbers, strict=True)]
        grid = rasters[0].grid
        window = _common(rasters)
        on_grid = tuple(KeptRaster(raster, grid, kept) for raster in rasters)
        yield Series(tuple(entries), on_grid, window, _part(window, grid, area, found[0]))
    finally:
        files.close()


def _find(config: SeriesConfig, run: Run) -> list[Entry]:
    """Return the rasters of known and different dates, in the order they are named."""

    def report(done: int, total: int) -> None:
        run.check()
        run.progress(0, f"Looking at {done} of {total} rasters")

    gathered = gather(config.rasters, "rasters", run.checkpoints / GATHERED, report)
    for warning in gathered.warnings:
        run.warning(warning)
    every = [entry for entry in gathered.collection.entries if entry.used and entry.role == "imagery"]
    for entry in every:
        if entry.problem:
            run.warning(f"{short_name(entry.path)} is left out. {entry.problem}")
    entries = [entry for entry in every if not entry.problem]
    _check_dates(entries)
    return entries


def _check_dates(entries: Sequence[Entry]) -> None:
    unknown = [f"'{short_name(entry.path)}'" for entry in entries if not entry.date]
    if unknown:
        raise UserError(
            f"Nothing tells when {_and(unknown)} {'was' if len(unknown) == 1 else 'were'} taken. Put the rasters into "
            "a collection on the page Imagery and give each its date there, or leave those without a date out under "
            "'Rasters'.",
            "rasters",
        )
    days: dict[str, str] = {}
    for entry in entries:
        name = short_name(entry.path)
        if other := days.get(day_of(entry)):
            raise UserError(
                f"'{other}' and '{name}' are both of {day_of(entry)}. Changes over time need one raster of a date: "
                "leave one of them out under 'Rasters', or put them together in QGIS with 'Merge'.",
                "rasters",
            )
        days[day_of(entry)] = name
    if len(days) < FEWEST_DATES:
        found = f" ({_and([f'{name} of {day}' for day, name in sorted(days.items())])})" if days else ""
        raise UserError(
            f"{len(days)} date{'s' if len(days) != 1 else ''} can be used{found}. Changes over time need "
            f"{FEWEST_DATES} or more: add rasters under 'Rasters', or compare two with 'Detect Change'.",
            "rasters",
        )


def _check_bands(entries: Sequence[Entry], left_out: tuple[str, ...], run: Run) -> None:
    """Refuse bands that no name tells apart, and tell which are not compared."""
    if not left_out:
        return
    if any(name.startswith("Band ") for name in left_out):
        fewest, most = (pick(entries, key=lambda entry: len(entry.bands)) for pick in (min, max))
        raise UserError(
            f"'{short_name(fewest.path)}' has {len(fewest.bands)} bands and '{short_name(most.path)}' has "
            f"{len(most.bands)}, and the files do not name them. Choose rasters with the same bands under 'Rasters', "
            "or name their bands on the page Imagery.",
            "rasters",
        )
    run.note(f"Only bands that all dates have are compared; left out: {', '.join(left_out)}.")


def _common(rasters: Sequence[EntryRaster]) -> Window:
    """Return what all rasters cover, in pixels of the first one's grid."""
    grid = rasters[0].grid
    windows = [shared_window(raster, grid) for raster in rasters]
    window = reduce(Window.intersection, windows)
    if window.height and window.width:
        return window
    names = [f"'{raster.name}'" for raster in rasters]
    alone = next((name for name, own in zip(names, windows, strict=True) if not (own.height and own.width)), None)
    what = f"{alone} and {names[0]} do not overlap" if alone else f"No ground is covered by all of {_and(names)}"
    raise UserError(
        f"{what}. Choose rasters of one place under 'Rasters', and check their CRS.",
        "rasters",
    )


def _part(window: Window, grid: Grid, area: str | None, named: Entry) -> Window:
    """Return the pixels of what is shared that lie in an area."""
    if area is None:
        return window
    crs = entry_grid(named).crs
    if crs != grid.crs and crs is not None and grid.crs is not None:
        area = ",".join(f"{edge!r}" for edge in transform_bounds(crs, grid.crs, *parse_bounds(area)))
    part = parse_area(grid, area).intersection(window)
    if not (part.height and part.width):
        raise UserError(
            "The area lies outside the part that all dates share. Draw another one under 'Area', or leave it empty to "
            "compare all of that part.",
            "area",
        )
    return part


def _and(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else "".join(words)
