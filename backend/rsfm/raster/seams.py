"""Finds objects once that several tiles saw.

A tile keeps the boxes whose centre lies in its core. As two tiles may not agree on which side of a seam a centre lies,
boxes a little outside the core are kept in reserve: they stand back for every box of the tile that owns the place.

Shape letters: N boxes, M pairs of boxes.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rsfm.raster.boxes import Boxes, centres, clip, overlaps, touching
from rsfm.raster.grid import Grid
from rsfm.raster.tiling import UNIT, Plan

RESERVE = 0.125
"""How far outside a core centres are kept in reserve, as a share of the largest object."""
STEPS = 2
"""A box depends on those it overlaps with, and they on those they overlap with."""


class ObjectTiles(NamedTuple):
    """Tiles of which each shows whole every object that it may keep.

    Attributes:
        largest: longest side of an object, in pixels.
        reserve: how far outside a core centres are kept, in pixels.
    """

    plan: Plan
    largest: int
    reserve: int

    @property
    def reach(self) -> int:
        """How far away, in pixels, something can be that decides whether a box is kept."""
        return STEPS * self.largest + self.reserve


def plan_object_tiles(side: int, largest: int, multiple: int) -> ObjectTiles:
    """Choose tiles of about a side that overlap by more than the largest object.

    A tile grows where it has no room for a core that is wider than what decides about a box.

    Args:
        multiple: sizes the network can take, and where tiles may start, in pixels.
    """
    unit = int(np.lcm(multiple, UNIT))
    reserve = max(2, int(np.ceil(RESERVE * largest)))
    halo = _round_up(-(-largest // 2) + reserve, multiple)
    core = max(_round_up(STEPS * largest + reserve, unit), (side - 2 * halo) // unit * unit)
    return ObjectTiles(Plan(core, core, halo, 1), largest, reserve)


def keep_of_tile(
    boxes_N: Boxes, tile: int, start: tuple[int, int], valid_SS: NDArray[np.bool_], tiles: ObjectTiles, grid: Grid
) -> Boxes:
    """Keep what a tile answers for: boxes of possible size with a valid centre in its core, or close to it.

    Args:
        boxes_N: in pixels of the tile.
        tile: its number.
        start: row and column of its core.
        valid_SS: its valid pixels.

    Returns:
        Boxes in pixels of the raster, cut to it.
    """
    plan, top, left = tiles.plan, start[0] - tiles.plan.halo, start[1] - tiles.plan.halo
    moved_N = boxes_N.copy()
    for side, offset in (("left", left), ("right", left), ("top", top), ("bottom", top)):
        moved_N[side] += offset
    moved_N = clip(moved_N, grid.height, grid.width)
    row_N, column_N = centres(moved_N)
    outside_N = np.maximum.reduce(
        [start[0] - row_N, row_N - (start[0] + plan.core), start[1] - column_N, column_N - (start[1] + plan.core)]
    )
    moved_N["tile"] = tile
    moved_N["own"] = (row_N >= start[0]) & (row_N < start[0] + plan.core)
    moved_N["own"] &= (column_N >= start[1]) & (column_N < start[1] + plan.core)
    small_N = np.maximum(moved_N["right"] - moved_N["left"], moved_N["bottom"] - moved_N["top"]) <= tiles.largest
    kept_N = (outside_N <= tiles.reserve) & small_N
    rows_N, columns_N = (np.floor(at_N[kept_N]).astype(int) for at_N in (row_N, column_N))
    kept_N[kept_N] = valid_SS[rows_N.clip(0, grid.height - 1) - top, columns_N.clip(0, grid.width - 1) - left]
    return np.asarray(moved_N[kept_N])


def settle(boxes_N: Boxes, threshold: float) -> NDArray[np.bool_]:
    """Tell which boxes stay where several tiles saw the same object.

    A box goes when a better one of another tile and of its class overlaps it by more than the threshold, unless that
    one overlaps with a better one itself. So it depends on nothing farther away than `ObjectTiles.reach`, and a part of
    a raster gives the boxes of the whole; up to three boxes in a row, it is the usual suppression from the best down.
    Better is what a tile owns, then the higher score.
    """
    order_N = np.lexsort(
        [boxes_N[name] for name in ("tile", "right", "bottom", "left", "top")] + [-boxes_N["score"], ~boxes_N["own"]]
    )
    rank_N = np.empty(len(boxes_N), np.int64)
    rank_N[order_N] = np.arange(len(boxes_N))
    first_M, second_M = touching(boxes_N, boxes_N)
    rivals_M = (boxes_N["tile"][first_M] != boxes_N["tile"][second_M]) & (rank_N[first_M] < rank_N[second_M])
    rivals_M &= boxes_N["value"][first_M] == boxes_N["value"][second_M]
    first_M, second_M = first_M[rivals_M], second_M[rivals_M]
    same_M = overlaps(boxes_N[first_M], boxes_N[second_M]) > threshold
    first_M, second_M = first_M[same_M], second_M[same_M]
    unbeaten_N = np.ones(len(boxes_N), bool)
    unbeaten_N[second_M] = False
    stays_N = np.ones(len(boxes_N), bool)
    stays_N[second_M[unbeaten_N[first_M]]] = False
    return stays_N


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
