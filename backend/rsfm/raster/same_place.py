"""Finds which rasters of a collection show a place, from their footprints alone; no file is opened.

Shape letters: E entries.
"""

from collections.abc import Sequence

import numpy as np
import shapely

from rsfm.errors import UserError
from rsfm.raster.collection import Entry
from rsfm.raster.reader import short_name

LARGEST_RATIO = 2.0
"""Of the pixel sizes of two rasters whose dates are compared."""

Box = tuple[float, float, float, float]


class SamePlace:
    """An index of footprints. Entries of one named place belong together whatever their footprints say."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._entries = entries
        self._named: dict[str, list[int]] = {}
        boxes, numbers = [], []
        for number, entry in enumerate(entries):
            if entry.place:
                self._named.setdefault(entry.place, []).append(number)
            elif entry.footprint is not None and np.isfinite(entry.footprint).all():
                parts = _unwrap(entry.footprint)
                boxes += parts
                numbers += [number] * len(parts)
        self._numbers = np.array(numbers, int)
        self._tree = shapely.STRtree(shapely.box(*np.array(boxes, float).reshape(-1, 4).T))
        self._tree.query(shapely.box(0, 0, 0, 0))  # the tree is built by its first query, which threads may not share

    def find(self, number: int, box: Box) -> np.ndarray:
        """Return the entries, in order, that may show a box in degrees lying in entry `number`, itself included."""
        place = self._entries[number].place
        if place:
            return np.array(self._named[place])
        found = [self._tree.query(shapely.box(*part)) for part in _unwrap(box)]
        return np.unique(np.append(self._numbers[np.concatenate(found)], number))

    def check_pixel_sizes(self, field: str = "rasters") -> None:
        """Make sure that rasters of one place can be compared.

        Raises:
            UserError: the pixels of one are more than twice as large as those of another.
        """
        gsd_E = np.array([entry.gsd if entry.gsd > 0 else np.nan for entry in self._entries])
        if not np.isfinite(gsd_E).any() or np.nanmax(gsd_E) <= LARGEST_RATIO * np.nanmin(gsd_E):
            return
        for number in np.flatnonzero(gsd_E * LARGEST_RATIO < np.nanmax(gsd_E)):
            fine = self._entries[int(number)]
            others = self.find(int(number), fine.footprint or (0, 0, 0, 0))
            largest = int(others[np.nanargmax(gsd_E[others])])
            if gsd_E[largest] > LARGEST_RATIO * gsd_E[number]:
                coarse = self._entries[largest]
                raise UserError(
                    f"The pixels of '{short_name(coarse.path)}' ({coarse.gsd:.4g} m) are "
                    f"{coarse.gsd / fine.gsd:.1f} times as large as those of '{short_name(fine.path)}' "
                    f"({fine.gsd:.4g} m), and both show the same place. Dates are learned from pixels that differ by "
                    f"{LARGEST_RATIO:.0f} times at most: leave one of the rasters out on the page Imagery.",
                    field,
                )


def _unwrap(box: Box) -> list[Box]:
    """Write a box that crosses the date line as two that meet there, each reaching beyond it."""
    west, south, east, north = box
    east = east + 360 if east < west else east
    return [(west, south, east, north)] + ([(west - 360, south, east - 360, north)] if east > 180 else [])
