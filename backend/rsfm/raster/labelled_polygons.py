"""Labelled polygons as what is dealt to training and test: their classes, sizes, places, and who lies close to whom.

Shape letters: N labelled pixels, P polygons, M pairs.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from rsfm.raster.grid import Grid
from rsfm.raster.labels import Indices, Labels

Flags = NDArray[np.bool_]

BLOCKS_A_SIDE = 8
"""The labelled extent is cut in about this many blocks a side."""


class Polygons(NamedTuple):
    """What a split needs to know of the polygons.

    Attributes:
        class_P, pixels_P, row_P, column_P: class, number of pixels, centroid in pixels.
        near_pixel_M, near_polygon_M, near_distance_M: labelled pixels and the foreign polygons within the gap.
    """

    class_P: Indices
    pixels_P: Indices
    row_P: NDArray[np.float64]
    column_P: NDArray[np.float64]
    near_pixel_M: Indices
    near_polygon_M: Indices
    near_distance_M: NDArray[np.float64]


def renumber(labels: Labels) -> Labels:
    """Count polygons anew, because pixels may have been left out since the labels were read."""
    first_P, polygon_N = np.unique(labels.polygon_N, return_index=True, return_inverse=True)[1:]
    counts_K = np.bincount(labels.class_N[first_P], minlength=len(labels.names))
    return labels._replace(polygon_N=polygon_N, polygons=tuple(counts_K.tolist()))


def measure(labels: Labels, gap: int) -> Polygons:
    pixels_P = np.bincount(labels.polygon_N)
    first_P = np.unique(labels.polygon_N, return_index=True)[1]
    row_P = np.bincount(labels.polygon_N, labels.rows_N) / pixels_P
    column_P = np.bincount(labels.polygon_N, labels.columns_N) / pixels_P
    near = _near(labels, gap) if gap else (np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
    return Polygons(labels.class_N[first_P], pixels_P, row_P, column_P, *near)


def _near(labels: Labels, gap: int) -> tuple[Indices, Indices, NDArray[np.float64]]:
    """Find the pixels within `gap` of each polygon that belong to other polygons."""
    points_N2 = np.stack([labels.rows_N, labels.columns_N], 1)
    order = np.argsort(labels.polygon_N, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(labels.polygon_N[order])) + 1)
    boxes = [shapely.box(*points_N2[own].min(0), *points_N2[own].max(0)) for own in members]
    grown = [shapely.box(*(points_N2[own].min(0) - gap), *(points_N2[own].max(0) + gap)) for own in members]
    pixels, polygons, distances = [np.empty(0, np.int64)], [np.empty(0, np.int64)], [np.empty(0)]
    trees: dict[int, cKDTree] = {}
    for one, other in zip(*shapely.STRtree(boxes).query(grown, predicate="intersects"), strict=True):
        if one == other:
            continue
        if one not in trees:
            trees[one] = cKDTree(points_N2[members[one]])
        distance = np.asarray(trees[one].query(points_N2[members[other]], distance_upper_bound=gap + 1e-6)[0])
        close = np.isfinite(distance)
        pixels.append(members[other][close])
        polygons.append(np.full(int(close.sum()), one))
        distances.append(distance[close])
    return np.concatenate(pixels), np.concatenate(polygons), np.concatenate(distances)


def _extent(labels: Labels) -> int:
    return int(max(np.ptp(labels.rows_N), np.ptp(labels.columns_N))) + 1


def asked_side(labels: Labels, grid: Grid, block_m: float) -> int:
    """Return the side of a block in pixels, at first."""
    asked = round(block_m / grid.gsd) if block_m else _extent(labels) // BLOCKS_A_SIDE
    return min(max(asked, 1), max(grid.height, grid.width))


def gaps(gap: int) -> list[int]:
    """Return the gaps to try, each half of the one before, the last 0."""
    return [gap >> step for step in range(gap.bit_length() + 1)]


def attempts(polygons: Polygons, grid: Grid, asked: int, gap: int) -> Iterator[tuple[int, int, Indices]]:
    """Give gap, side of blocks and the block of each polygon: smaller blocks first, at the end 0, every polygon on its
    own; then a smaller gap."""
    for kept_gap in gaps(gap):
        for block_px in [asked >> step for step in range(asked.bit_length() + 1)]:
            yield kept_gap, block_px, _groups(polygons, block_px, grid)


def _groups(polygons: Polygons, block_px: int, grid: Grid) -> Indices:
    """Number the block of each polygon."""
    if not block_px:
        return np.arange(len(polygons.class_P))
    across = grid.width // block_px + 1
    keys_P = (polygons.row_P // block_px).astype(int) * across + (polygons.column_P // block_px).astype(int)
    return np.asarray(np.unique(keys_P, return_inverse=True)[1], np.int64)


def in_gap(polygons: Polygons, train_P: Flags, gap: int, pixels: int) -> Flags:
    """Mark labelled pixels within the gap of a training polygon that is not their own."""
    close_M = (polygons.near_distance_M <= gap) & train_P[polygons.near_polygon_M]
    in_gap_N = np.zeros(pixels, bool)
    if gap:
        in_gap_N[polygons.near_pixel_M[close_M]] = True
    return in_gap_N
