"""Draws points at random in each class of a map, whose true class somebody is then to look up.

Each point of a class is drawn with a chance that follows the area of its pixel, so that shares of points estimate
shares of area in every CRS.

Shape letters: S strata (classes of the map), N points, M pixels of a class in a strip, H rows, W columns.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyogrio.raw
import shapely
from numpy.typing import NDArray

from rsfm.errors import UserError
from rsfm.evaluation.mapped import strips
from rsfm.outputs.sample_points import SamplePoints
from rsfm.raster.area import Area
from rsfm.raster.geopackage import GEOPACKAGE
from rsfm.raster.grid import Grid, Window
from rsfm.raster.ground_area import GroundArea
from rsfm.raster.reader import Raster

MORE, OFTEN = 3, 20
"""So many times more places are drawn than are needed, as a pixel may be drawn twice; more often of few pixels."""


class Strata(NamedTuple):
    """The classes of a map: their values, how many pixels each has, and its square metres."""

    value_S: NDArray[np.int64]
    pixels_S: NDArray[np.int64]
    area_S: NDArray[np.float64]


class Drawn(NamedTuple):
    """Points in the order in which they are to be looked up: their pixels, and the number of the stratum."""

    rows_N: NDArray[np.int64]
    columns_N: NDArray[np.int64]
    stratum_N: NDArray[np.int64]


def measure(raster: Raster, area: Area, values: list[int], check: Callable[[], None]) -> Strata:
    """Measure the classes of a map in an area."""
    value_S = np.array(values, np.int64)
    pixels_S, area_S = np.zeros(len(values), np.int64), np.zeros(len(values))
    for _, stratum_HW, area_HW in _by_strips(raster, area, value_S):
        check()
        known_HW = stratum_HW >= 0
        pixels_S += np.bincount(stratum_HW[known_HW], minlength=len(values))
        area_S += np.bincount(stratum_HW[known_HW], area_HW[known_HW], len(values))
    return Strata(value_S, pixels_S, area_S)


def allocate(strata: Strata, points: int, fewest: int) -> NDArray[np.int64]:
    """Say how many points each stratum gets: by its area, but never fewer than some, nor more than it has pixels.

    Raises:
        UserError: there are not enough points.
    """
    least_S = np.minimum(fewest, strata.pixels_S)
    if least_S.sum() > points:
        raise UserError(
            f"{points} points are too few for {fewest} in each of {len(least_S)} classes. Draw {int(least_S.sum())} or "
            "more under 'Points', or fewer under 'Fewest per class'.",
            "points",
        )
    count_S, free_S = least_S.copy(), np.ones(len(least_S), bool)
    while free_S.any():
        left = points - count_S[~free_S].sum()
        wanted_S = left * strata.area_S / strata.area_S[free_S].sum()
        fixed_S = free_S & (wanted_S < least_S)
        if not fixed_S.any():  # what is left over by classes of few pixels goes to the others
            fixed_S = free_S & (wanted_S > strata.pixels_S)
            count_S[fixed_S] = strata.pixels_S[fixed_S]
        if not fixed_S.any():
            count_S[free_S] = _round(wanted_S[free_S], int(left))
            break
        free_S &= ~fixed_S
    return count_S


def draw(
    raster: Raster, area: Area, strata: Strata, count_S: NDArray[np.int64], seed: int, check: Callable[[], None]
) -> Drawn:
    """Draw the points; no pixel twice."""
    random = np.random.default_rng(seed)
    wanted = [_places(random, strata, at, int(count)) for at, count in enumerate(count_S)]
    passed_S = np.zeros(len(count_S))
    found: list[list[NDArray[np.int64]]] = [[] for _ in count_S]
    for window, stratum_HW, area_HW in _by_strips(raster, area, strata.value_S):
        check()
        for at, places_N in enumerate(wanted):
            pixel_M = np.flatnonzero(stratum_HW == at)
            if not len(pixel_M):
                continue
            end_M = passed_S[at] + np.cumsum(area_HW.ravel()[pixel_M])
            first, last = np.searchsorted(places_N[0], [passed_S[at], end_M[-1]])
            hit_N = pixel_M[np.minimum(np.searchsorted(end_M, places_N[0][first:last]), len(pixel_M) - 1)]
            row_N, column_N = np.divmod(hit_N, window.width)
            order_N = places_N[1][first:last].astype(np.int64)
            found[at].append(np.stack([order_N, row_N + window.row, column_N + window.column]))
            passed_S[at] = end_M[-1]
    parts = [
        _first_different(np.concatenate(each, axis=1), int(count)) if each else np.empty((2, 0), np.int64)
        for each, count in zip(found, count_S, strict=True)
    ]
    stratum_N = np.repeat(np.arange(len(parts)), [part.shape[1] for part in parts])
    mixed_N = random.permutation(len(stratum_N))
    rows_N, columns_N = np.concatenate(parts, axis=1)
    return Drawn(rows_N[mixed_N], columns_N[mixed_N], stratum_N[mixed_N])


def write_points(path: Path, drawn: Drawn, names: list[str], grid: Grid) -> None:
    """Write the points, at the centres of their pixels; the class is empty."""
    partial = path.with_name(f"{path.stem}.partial{path.suffix}")
    partial.unlink(missing_ok=True)
    a, b, c, d, e, f = grid.transform[:6]
    right_N, down_N = drawn.columns_N + 0.5, drawn.rows_N + 0.5
    x_N, y_N = a * right_N + b * down_N + c, d * right_N + e * down_N + f
    columns: list[NDArray[Any]] = [
        np.arange(1, len(x_N) + 1, dtype=np.int32),
        np.full(len(x_N), None, object),
        np.array([names[at] for at in drawn.stratum_N], object),
    ]
    pyogrio.raw.write(
        partial,
        np.array(shapely.to_wkb(shapely.points(x_N, y_N)), object),
        field_data=columns,
        fields=np.array(SamplePoints.fields, object),
        layer="sample",
        geometry_type="Point",
        crs=grid.crs.to_wkt() if grid.crs else None,
        **GEOPACKAGE,
    )
    os.replace(partial, path)


def _by_strips(
    raster: Raster, area: Area, value_S: NDArray[np.int64]
) -> Iterator[tuple[Window, NDArray[np.int64], NDArray[np.float64]]]:
    """Return windows of rows with the stratum of each pixel, -1 for none, and its square metres."""
    ground = GroundArea(raster.grid)
    for window in strips(area.window):
        value_CHW, valid_HW = raster.read_native(window)
        at_HW = np.minimum(np.searchsorted(value_S, value_CHW[0]), len(value_S) - 1)
        known_HW = valid_HW & area.inside(window) & (value_S[at_HW] == value_CHW[0])
        yield window, np.where(known_HW, at_HW, -1), ground.read(window)


def _places(random: np.random.Generator, strata: Strata, at: int, count: int) -> NDArray[np.float64]:
    """Draw places along the pixels of a stratum, by the area before them; with the order in which they came."""
    times = MORE if MORE * count < strata.pixels_S[at] else OFTEN
    place_N = random.uniform(0, strata.area_S[at], times * count)
    order_N = np.argsort(place_N, kind="stable")
    return np.stack([place_N[order_N], order_N.astype(np.float64)])


def _first_different(order_row_column_3N: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return row and column of the first pixels that were drawn, each once."""
    _, row_N, column_N = order_row_column_3N[:, np.argsort(order_row_column_3N[0], kind="stable")]
    _, first = np.unique(row_N * 2**32 + column_N, return_index=True)
    kept = np.sort(first)[:count]
    return np.stack([row_N[kept], column_N[kept]])


def _round(wanted_S: NDArray[np.float64], total: int) -> NDArray[np.int64]:
    """Round to whole numbers of a sum: the largest remainders up."""
    count_S = np.floor(wanted_S).astype(np.int64)
    missing = total - int(count_S.sum())
    count_S[np.argsort(count_S - wanted_S, kind="stable")[:missing]] += 1
    return count_S
