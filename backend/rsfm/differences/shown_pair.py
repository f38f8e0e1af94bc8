"""Keeps the check of a pair for the report: its findings, how alike the bands are, and the shift of each block."""

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rsfm.differences.findings import Finding, Measured
from rsfm.differences.shift import Shift
from rsfm.differences.shown_dates import open_shown
from rsfm.picture_file import write_picture
from rsfm.raster.grid import Grid
from rsfm.raster.pair import Pair
from rsfm.raster.resampled import to_map
from rsfm.raster.thumbnail import small_grid
from rsfm.runs import Run
from rsfm.shown import keep_part

SIDE = 400
"""Pixels of the longer side of the map of shifts, at most."""
MOST_SECONDS = 5.0
"""Time that reading for it takes at most."""
FILES = ["pair-before.jpg", "pair-after.jpg"]


def keep_pair(run: Run, pair: Pair, found: Sequence[Finding], measured: Measured) -> None:
    """Keep what the check found for the report.

    Args:
        found: all findings, in their order.
    """
    keep_part(run.folder / "shown", "pair", lambda: _shown(run.folder / "shown", pair, found, measured))


def _shown(folder: Path, pair: Pair, found: Sequence[Finding], measured: Measured) -> dict[str, Any]:
    shift, bands = measured.shift, zip(pair.before.band_names, measured.correlations, strict=True)
    small = _draw(folder, pair)
    return {
        "findings": [finding._asdict() for finding in found],
        "bands": [{"name": name, "correlation": correlation} for name, correlation in bands],
        "gate": measured.gate._asdict(),
        "picture": {
            "files": FILES,
            "names": [pair.before.name, pair.after.name],
            "height": small.height,
            "width": small.width,
            "metres": math.sqrt(small.pixel_area),
            "georeferenced": small.crs is not None,
        },
        "shift": {
            "verdict": shift.verdict,
            "moved": measured.moved and shift.verdict == "shifted",
            "counted": shift.counted,
            "blocks": _blocks(shift, pair.before.grid, small),
        },
    }


def _draw(folder: Path, pair: Pair) -> Grid:
    """Draw the overlap in small, and return the grid of both pictures."""
    grid = pair.before.grid
    small = small_grid(grid, grid.crop(pair.window).bounds, SIDE)
    with open_shown(pair) as dates:
        colours, _ = dates.draw(small, time.monotonic() + MOST_SECONDS)
    for name, colours_CHW in zip(FILES, colours, strict=True):
        write_picture(folder / name, colours_CHW)
    return small


def _blocks(shift: Shift, grid: Grid, small: Grid) -> list[dict[str, Any]]:
    """Return the centre and the shift of each block, as column and row of the picture."""
    start_N2 = np.array([(block.row, block.column) for block in shift.blocks]).reshape(-1, 2)
    way_N2 = np.array([(block.down, block.right) for block in shift.blocks]).reshape(-1, 2)
    a, b, c, d, e, f = (~small.transform)[:6]
    placed = []
    for rows, columns in (start_N2.T, (start_N2 + way_N2).T):
        x, y = to_map(grid, rows, columns)
        placed.append(np.stack([a * x + b * y + c, d * x + e * y + f], axis=1))
    return [
        {
            "at": start.round(2).tolist(),
            "way": (end - start).round(5).tolist(),
            "length_px": math.hypot(block.down, block.right),
            "counts": block.counts,
        }
        for block, start, end in zip(shift.blocks, *placed, strict=True)
    ]
