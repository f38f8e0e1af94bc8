"""Traces the objects of a raster strip by strip, as polygons that share every vertex of their common edges.

The corners where three objects meet are vertices of all of them, so the polygons are a coverage: nothing opens between
neighbours when they are drawn in another CRS or simplified.

Smoothing keeps what is common as well. Each strip is simplified as a coverage of its own, whose rim stays: neighbours
get the same edge, the seam between two strips is where it was, and so is the edge to nodata.

Shape letters: H rows, W columns, P parts of objects, R rings, V vertices.
"""

from array import array
from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple

import numpy as np
import shapely
from rasterio.features import shapes


class Smoothing(NamedTuple):
    """Bends are left out whose triangle has less than the square of `tolerance`, in the unit of a pixel's sides."""

    tolerance: float
    height: float
    width: float


class Tracer:
    """Makes polygons, in pixels (column, row), of numbered objects; takes strips from top to bottom."""

    def __init__(self, last_row_N: np.ndarray, smoothing: Smoothing | None = None) -> None:
        self._last_row_N, self._smoothing = last_row_N, smoothing
        self._row = 0
        self._above_W: np.ndarray | None = None
        self._open: dict[int, list[shapely.Polygon]] = {}

    def add(self, numbers_HW: np.ndarray, below_W: np.ndarray | None = None) -> Iterator[tuple[int, shapely.Geometry]]:
        """Take the next strip and return the polygons that are complete, with their numbers.

        Args:
            below_W: the first row of the strip after it; needed where objects touch.
        """
        numbers_P, polygons_P = _trace(numbers_HW, self._above_W, below_W)
        if self._smoothing is not None:
            polygons_P = _smooth(polygons_P, self._smoothing)
        polygons_P = shapely.transform(polygons_P, lambda points_V2: points_V2 + np.array([0, self._row]))
        for number, polygon in zip(numbers_P.tolist(), polygons_P, strict=True):
            self._open.setdefault(number, []).append(polygon)
        del polygons_P
        self._row += len(numbers_HW)
        self._above_W = numbers_HW[-1].copy()
        complete = [number for number in self._open if self._last_row_N[number - 1] < self._row]
        for number in complete:
            for polygon in shapely.get_parts(_joined(self._open.pop(number))):  # smoothing may pinch one apart
                yield number, polygon


def _trace(
    numbers_HW: np.ndarray, above_W: np.ndarray | None, below_W: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Trace the parts of the objects in a strip: numbers_P and polygons_P."""
    numbers, rings, lengths, values = array("q"), array("q"), array("q"), array("d")
    for geometry, number in shapes(numbers_HW, mask=numbers_HW > 0, connectivity=4):
        numbers.append(int(number))
        rings.append(len(geometry["coordinates"]))
        for ring in geometry["coordinates"]:
            lengths.append(len(ring) - 1)
            values.extend(chain.from_iterable(ring[:-1]))
    points_V2 = np.frombuffer(values, float).astype(np.int32).reshape(-1, 2)
    points_V2, length_R = _with_nodes(points_V2, np.frombuffer(lengths, np.int64), _nodes(numbers_HW, above_W, below_W))
    return np.frombuffer(numbers, np.int64).copy(), _polygons(points_V2, length_R, np.frombuffer(rings, np.int64))


def _nodes(numbers_HW: np.ndarray, above_W: np.ndarray | None, below_W: np.ndarray | None) -> np.ndarray:
    """Tell of each corner of the pixels, rows + 1 x columns + 1, whether three edges meet there or more."""
    padded = np.pad(numbers_HW, 1)
    if above_W is not None:
        padded[0, 1:-1] = above_W
    if below_W is not None:
        padded[-1, 1:-1] = below_W
    across = (padded[:, :-1] != padded[:, 1:]).view(np.uint8)
    down = (padded[:-1] != padded[1:]).view(np.uint8)
    return np.asarray(across[:-1] + across[1:] + down[:, :-1] + down[:, 1:] >= 3)


def _with_nodes(points_V2: np.ndarray, length_R: np.ndarray, nodes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Insert the nodes that lie on the edges of open rings."""
    end_R = np.cumsum(length_R)
    following = np.arange(1, len(points_V2) + 1)
    following[end_R - 1] = end_R - length_R
    way_V2 = points_V2[following] - points_V2
    steps_V = np.gcd(*np.abs(way_V2).T)  # corners of pixels that an edge goes through, its end among them
    start_V = np.cumsum(steps_V) - steps_V
    of = np.repeat(np.arange(len(points_V2), dtype=np.int32), steps_V)
    step = np.arange(len(of), dtype=np.int32) - start_V.astype(np.int32)[of]
    all_2 = points_V2[of] + (way_V2 // np.maximum(steps_V, 1)[:, None])[of] * step[:, None]
    kept = (step == 0) | nodes[all_2[:, 1], all_2[:, 0]]
    ring_V = np.repeat(np.arange(len(length_R)), length_R)
    return all_2[kept], np.bincount(ring_V[of[kept]], minlength=len(length_R))


def _polygons(points_V2: np.ndarray, length_R: np.ndarray, rings_P: np.ndarray) -> np.ndarray:
    """Make polygons of open rings, which are closed here."""
    if not len(rings_P):
        return np.empty(0, object)
    start_R = np.cumsum(length_R) - length_R
    first_R2 = points_V2[start_R]
    closed_V2 = np.insert(points_V2, start_R + length_R, first_R2, axis=0).astype(float)
    offsets = np.concatenate([[0], np.cumsum(length_R + 1)]), np.concatenate([[0], np.cumsum(rings_P)])
    return np.asarray(shapely.from_ragged_array(shapely.GeometryType.POLYGON, closed_V2, offsets))


def _smooth(polygons_P: np.ndarray, smoothing: Smoothing) -> np.ndarray:
    """Simplify a coverage, in metres; vertices are left out and none is moved."""
    sides = np.array([smoothing.width, smoothing.height])
    scaled_P = shapely.transform(polygons_P, lambda points_V2: points_V2 * sides)
    kept_P = shapely.coverage_simplify(scaled_P, smoothing.tolerance, simplify_boundary=False)
    return _part_where_they_touch(shapely.transform(kept_P, lambda points_V2: np.rint(points_V2 / sides)))


def _part_where_they_touch(polygons_P: np.ndarray) -> np.ndarray:
    """Give edges the vertices that lie on them, and part polygons where their own do: simplifying leaves these."""
    if not len(polygons_P):
        return polygons_P
    _, points_V2, (ring_ends, polygon_ends) = shapely.to_ragged_array(polygons_P)
    points_V2 = np.delete(points_V2, ring_ends[1:] - 1, axis=0).astype(np.int32)
    nodes = np.zeros(points_V2.max(axis=0)[::-1] + 1, bool)
    nodes[points_V2[:, 1], points_V2[:, 0]] = True
    points_V2, length_R = _with_nodes(points_V2, np.diff(ring_ends) - 1, nodes)
    parted_P = _polygons(points_V2, length_R, np.diff(polygon_ends))
    touching_P = ~shapely.is_valid(parted_P)
    parted_P[touching_P] = shapely.make_valid(parted_P[touching_P], method="structure", keep_collapsed=False)
    return parted_P


def _joined(parts: list[shapely.Polygon]) -> shapely.Geometry:
    """Join the parts of one object; vertices that the seams left on edges stay, for its neighbours have them too."""
    return parts[0] if len(parts) == 1 else shapely.union_all(parts)
