"""How a raster is cut into tiles, and how their results are put together again. Plain numbers, no files.

Tiles start at multiples of a fixed step from the raster's pixel (0, 0), whatever area was asked for, so that an area's
result is the crop of the full one and the patches of all tiles fall on one grid. What hangs over the edge is padded; no
tile is shifted back.

Two modes. Halo: the network sees only `margin` pixels around each pixel, so a tile is read with a halo, and its core,
free of edge effects, is kept. Blend: the network sees the whole tile, so tiles overlap and are averaged with weights
that sum to 1 everywhere.
"""

import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from rsfm.inference_config import TilingConfig

UNIT = 32
"""Tile starts are multiples of this many pixels, and of what the network asks for."""
USUAL_SIDE, USUAL_OVERLAP = 256, 64
SMALL_WINDOW = 64
"""Up to this side neighbours share half of it, else a quarter: measured with windows of 32 px."""


class Plan(NamedTuple):
    """Tiles along both axes, in pixels.

    Attributes:
        core: side of what a tile contributes.
        step: from one core to the next; smaller than `core` when tiles are blended.
        halo: pixels read around the core and thrown away.
        stride: pixels of a cell of the network's output.
    """

    core: int
    step: int
    halo: int
    stride: int

    @property
    def side(self) -> int:
        """Side of what the network is given."""
        return self.core + 2 * self.halo

    @property
    def shared(self) -> int:
        """Cells along an axis that a tile shares with the tiles before it; none unless tiles are blended."""
        return (self.core - self.step) // self.stride

    @property
    def bands(self) -> list["Band"]:
        """The cells along an axis of a tile, cut where those that it shares with others end and begin."""
        cells, shared = self.core // self.stride, self.shared
        cuts = sorted({0, shared, max(cells - shared, shared), cells})
        return [Band(first, end, shared <= first and end <= cells - shared) for first, end in pairwise(cuts)]

    @property
    def first_and_rest(self) -> list["Band"]:
        """The cells that a tile shares with those before it, and the rest."""
        first, *rest = self.bands
        return [first, Band(rest[0].first, rest[-1].end, alone=False)] if rest else [first]


class Band(NamedTuple):
    """Neighbouring cells along an axis of a tile.

    Attributes:
        alone: no other tile has them.
    """

    first: int
    end: int
    alone: bool


def plan_tiles(tiling: TilingConfig, multiple: int, stride: int, margin: int | None, window: int = 0) -> Plan:
    """Choose the tiles.

    A tile grows where the network's multiple leaves no room for the overlap or the halo that were asked for.

    Args:
        multiple: sizes and starts the network can take, in pixels.
        margin: how far the network sees around a pixel; None is the whole tile.
        window: side of the windows that a network which sees the whole tile learnt with; 0 is any. Larger tiles than
            these show it distances that it never saw.
    """
    multiple = math.lcm(multiple, stride)
    unit, wanted, overlap = math.lcm(multiple, UNIT), tiling.tile_size, tiling.tile_overlap
    if not wanted and window and margin is None:
        unit, wanted, overlap = multiple, window, window // (2 if window <= SMALL_WINDOW else 4)
    elif not wanted:
        wanted, overlap = USUAL_SIDE, USUAL_OVERLAP
    side = _round_up(wanted, multiple)
    if margin is not None:
        halo = _round_up(margin, multiple)
        core = max(unit, (side - 2 * halo) // unit * unit)
        return Plan(core, core, halo, stride)
    step = max(unit, (side - overlap) // unit * unit)
    core = max(side, _round_up(step + overlap, multiple))
    return Plan(core, step, 0, stride)


def tile_starts(size: int, plan: Plan) -> range:
    """Return where cores start so that they cover `size` pixels."""
    count = 1 + max(0, -(-(size - plan.core) // plan.step))
    return range(0, count * plan.step, plan.step)


def select_tiles(starts: range, plan: Plan, first: int, end: int) -> range:
    """Return the indices of the tiles whose cores touch the pixels from `first` to before `end`."""
    return range(*_span([start + plan.core > first and start < end for start in starts]))


def owned(index: int, starts: range, size: int) -> tuple[int, int]:
    """Return the pixels, first and end, that are final once tile `index` and those before it are done."""
    return starts[index], starts[index + 1] if index + 1 < len(starts) else size


def axis_weights(starts: range, plan: Plan) -> np.ndarray:
    """Weigh the cells of each tile along one axis.

    sin^2 at the cells' centres, positive everywhere, divided by the sum over the tiles that are really there: the
    products over both axes sum to 1 at every cell, at the edges too.

    Returns:
        weights_TN: float32, computed in float64, of T tiles and N cells of a core.
    """
    cells, step = plan.core // plan.stride, plan.step // plan.stride
    bell_N = np.sin(np.pi * (np.arange(cells) + 0.5) / cells) ** 2
    total = np.zeros((len(starts) - 1) * step + cells)
    for index in range(len(starts)):
        total[index * step : index * step + cells] += bell_N
    sums_TN = np.stack([total[index * step : index * step + cells] for index in range(len(starts))])
    return (bell_N / sums_TN).astype(np.float32)


def any_in_cells(valid_HW: np.ndarray, stride: int) -> np.ndarray:
    """Tell which cells of stride x stride pixels hold a valid one; the last row and column may be cut."""
    if stride == 1:
        return valid_HW
    height, width = valid_HW.shape
    padded_HW = np.pad(valid_HW, ((0, -height % stride), (0, -width % stride)))
    rows, columns = padded_HW.shape[0] // stride, padded_HW.shape[1] // stride
    return np.asarray(padded_HW.reshape(rows, stride, columns, stride).any(axis=(1, 3)))


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def _span(flags: list[bool]) -> tuple[int, int]:
    """Return the first and the end of a run of True."""
    return flags.index(True), len(flags) - flags[::-1].index(True)
