"""Draws the shift of each block as an arrow from where things are to where the later date shows them.

Shape letters: N blocks.
"""

import os
from pathlib import Path

import numpy as np
import pyogrio
import shapely

from rsfm.differences.shift import STEP, BlockShift, Shift
from rsfm.outputs.shift_arrows import ShiftArrows
from rsfm.raster.geopackage import GEOPACKAGE
from rsfm.raster.grid import Grid
from rsfm.raster.resampled import to_map

LONGER = 16
"""Arrows are drawn so many times as long as the shift, to be seen."""
HEAD, SPREAD = 0.25, 0.4
"""Length of the strokes of the head, as a part of the arrow, and their angle in radians."""


def write_arrows(path: Path, shift: Shift, grid: Grid) -> None:
    """Write an arrow for each block, in pixels of `grid`; those that do not count have `counts` 0."""
    partial = path.with_name(f"{path.stem}.partial{path.suffix}")
    partial.unlink(missing_ok=True)
    columns = np.array([_row(block) for block in shift.blocks], np.float64).reshape(-1, len(ShiftArrows.fields)).T
    pyogrio.raw.write(
        partial,
        shapely.to_wkb(np.array([_arrow(block, grid) for block in shift.blocks], object)),
        [columns[0].astype(np.int32), *columns[1:]],
        list(ShiftArrows.fields),
        layer=path.stem,
        **GEOPACKAGE,
        geometry_type="LineString",
        crs=grid.crs.to_wkt() if grid.crs else None,
    )
    os.replace(partial, path)


def _row(block: BlockShift) -> tuple[float, ...]:
    length = float(np.hypot(block.down, block.right))
    return tuple(round(value, 3) for value in (float(block.counts), block.down, block.right, length, block.quality))


def _arrow(block: BlockShift, grid: Grid) -> shapely.LineString:
    """Draw a block's shift, with a head of two strokes; one that means nothing is cut at the block's own size."""
    longer = LONGER if block.counts else min(LONGER, STEP / max(np.hypot(block.down, block.right), 1e-6))
    start, way = complex(block.column, block.row), longer * complex(block.right, block.down)
    tip, barbs = start + way, [HEAD * way * np.exp(1j * turn) for turn in (SPREAD, -SPREAD)]
    path = np.array([start, tip, tip - barbs[0], tip, tip - barbs[1]])
    x, y = to_map(grid, path.imag, path.real)
    return shapely.LineString(np.stack([x, y], axis=1))
