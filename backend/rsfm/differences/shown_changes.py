"""Keeps the largest changes of a run for its report: both dates of each place, a box around it, what is known of it."""

import math
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyogrio
import shapely
from rasterio.warp import transform as transform_coordinates

from rsfm.differences.shown_dates import ShownDates, open_shown
from rsfm.picture_file import write_picture
from rsfm.raster.grid import Grid
from rsfm.raster.pair import Pair
from rsfm.raster.thumbnail import Bounds, shifted_into, small_grid, square_around
from rsfm.runs import Run
from rsfm.shown import keep_part

MOST = 20
SIDE = 192
"""Pixels of a picture's side, at most."""
WIDER, SMALLEST = 1.6, 48
"""Times by which a picture is longer than the change, and pixels of the raster that it shows at least."""
MOST_SECONDS = 20.0
"""Time that reading takes at most."""
LOSSLESS = 100
"""Side of a picture below which it is enlarged in the report, so that its pixels are kept as they are."""
VALUES = ("mean_magnitude", "mean_likeness", "confidence")
"""Fields of polygons of change that say how much, how like or how sure."""


class Place(NamedTuple):
    """A change: its outline's bounds in the CRS of the pair, and its fields."""

    bounds: Bounds
    fields: dict[str, Any]


def keep_changes(run: Run, pair: Pair, polygons_path: Path, why_none: str) -> None:
    """Keep the largest changes for the report.

    Args:
        polygons_path: polygons with rank and area_m2; nothing stands there where none were found.
        why_none: what is said then.

    Raises:
        Stopped, Cancelled: by the user.
    """

    def make() -> dict[str, Any]:
        if not polygons_path.exists():
            return {"why_none": why_none}
        both = pair.before.grid.crop(pair.window).bounds
        with open_shown(pair) as dates:
            found = _shown(largest(polygons_path), dates, both, run)
        return found | {"all": pyogrio.read_info(polygons_path)["features"]}

    keep_part(run.folder / "shown", "changes", make)


def largest(path: Path) -> list[Place]:
    """Read the largest changes, the largest first."""
    sql = f'SELECT * FROM "{path.stem}" ORDER BY area_m2 DESC, rank LIMIT {MOST}'  # noqa: S608  our own file
    meta, _, geometry, columns = pyogrio.raw.read(path, sql=sql)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    boxes_N4 = shapely.bounds(shapely.from_wkb(geometry)).tolist()
    return [
        Place(tuple(box), dict(zip(meta["fields"], row, strict=True))) for box, row in zip(boxes_N4, rows, strict=True)
    ]


def _shown(places: list[Place], dates: ShownDates, both: Bounds, run: Run) -> dict[str, Any]:
    """Draw all places: the small ones first, and a large one cannot take the time of the others.

    Args:
        both: the bounds of the overlap, which pictures do not leave where they fit into it.
    """
    until, folder = time.monotonic() + MOST_SECONDS, run.folder / "shown"
    grid = dates.before.grid
    squares = [shifted_into(square_around(grid, place.bounds, WIDER, SMALLEST), both) for place in places]
    order = np.argsort([east - west for west, _, east, _ in squares], kind="stable")
    rows: list[dict[str, Any]] = [{}] * len(places)
    for drawn, at in enumerate(order.tolist()):
        run.check()
        small, now = small_grid(grid, squares[at], SIDE), time.monotonic()
        colours, complete = dates.draw(small, now + (until - now) / (len(places) - drawn))
        ending = "jpg" if max(small.height, small.width) >= LOSSLESS else "png"
        files = [f"change-{at + 1}-{date}.{ending}" for date in ("before", "after")]
        for name, colours_CHW in zip(files, colours, strict=True):
            write_picture(folder / name, colours_CHW)
        rows[at] = _facts(places[at], small) | {"files": files, "complete": complete}
    value = next((name for name in VALUES if places and name in places[0].fields), None)
    return {
        "places": rows,
        "value": value,
        "bands": list(dates.names),
        "alike": dates.alike,
        "crs": _name(grid),
        "geographic": grid.crs is not None and grid.crs.is_geographic,
    }


def _name(grid: Grid) -> str | None:
    code = grid.crs.to_epsg() if grid.crs else None
    return f"EPSG:{code}" if code else "the CRS of the earlier raster" if grid.crs else None


def _facts(place: Place, small: Grid) -> dict[str, Any]:
    """Return what is known of a change, and where its box lies in the picture."""
    west, south, east, north = place.bounds
    left, top = ~small.transform @ (west, north)
    right, bottom = ~small.transform @ (east, south)
    x, y = (west + east) / 2, (south + north) / 2
    return {
        "fields": place.fields,
        "box": [round(value, 2) for value in (left, top, right - left, bottom - top)],
        "height": small.height,
        "width": small.width,
        "metres": math.sqrt(small.pixel_area),
        "centre": [x, y],
        "degrees": _degrees(small, x, y),
    }


def _degrees(grid: Grid, x: float, y: float) -> list[float] | None:
    """Return latitude and longitude; None where nobody knows."""
    if grid.crs is None:
        return None
    (longitude,), (latitude,) = transform_coordinates(grid.crs, "EPSG:4326", [x], [y])
    return [latitude, longitude] if math.isfinite(latitude + longitude) else None
