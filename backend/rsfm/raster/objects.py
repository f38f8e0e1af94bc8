"""Connected objects of a raster of any size, found strip by strip.

Pixels of one value that touch by an edge are one object. A first pass finds and measures the objects, a second pass
labels the same strips again with their final numbers; only a few numbers for each object are kept between them.

Shape letters: H rows, W columns, L objects of single strips, N objects.
"""

from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from skimage.measure import label

from rsfm.raster.borders import BorderFinder


class Objects(NamedTuple):
    """What is known of each object; they are numbered from 1, by the place of their first pixel.

    Attributes:
        value_N: the pixels' value.
        pixels_N: how many pixels.
        area_N: sum of their areas.
        weight_N: sum of their weights.
        last_row_N: of the raster.
        number_L: object -> number, 0 where it was left out; the objects of strips count from 1.
        firsts: for every strip, how many objects the strips above have.
    """

    value_N: np.ndarray
    pixels_N: np.ndarray
    area_N: np.ndarray
    weight_N: np.ndarray
    last_row_N: np.ndarray
    number_L: np.ndarray
    firsts: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.value_N)

    def keep(self, wanted_N: np.ndarray) -> "Objects":
        """Leave out objects; the others are numbered anew."""
        renumbered = np.concatenate([[0], np.where(wanted_N, np.cumsum(wanted_N), 0)]).astype(np.int32)
        return Objects(
            self.value_N[wanted_N],
            self.pixels_N[wanted_N],
            self.area_N[wanted_N],
            self.weight_N[wanted_N],
            self.last_row_N[wanted_N],
            renumbered[self.number_L],
            self.firsts,
        )

    def join(self, into_M: np.ndarray) -> "Objects":
        """Make objects parts of others, whose values they take; all are numbered anew.

        Args:
            into_M: for 0 and each object, the object that it becomes part of.
        """
        kept, number_M = np.unique(into_M, return_inverse=True)  # 0 is the first

        def sums(values_N: np.ndarray) -> np.ndarray:
            return np.bincount(number_M[1:], values_N, len(kept))[1:]

        last_row_N = np.zeros(len(kept), np.int64)
        np.maximum.at(last_row_N, number_M[1:], self.last_row_N)
        return Objects(
            self.value_N[kept[1:] - 1],
            sums(self.pixels_N).astype(np.int64),
            sums(self.area_N),
            sums(self.weight_N),
            last_row_N[1:],
            number_M[self.number_L].astype(np.int32),
            self.firsts,
        )

    def label(self, strip: int, values_HW: np.ndarray) -> np.ndarray:
        """Return the number of each pixel's object, numbers_HW, int32, 0 for none.

        Args:
            strip: which one, from 0.
            values_HW: as in the first pass.
        """
        labels_HW = _label(values_HW)
        ends = (*self.firsts, len(self.number_L) - 1)
        numbers = np.concatenate([[0], self.number_L[1 + ends[strip] : 1 + ends[strip + 1]]]).astype(np.int32)
        return np.asarray(numbers[labels_HW])


class ObjectFinder:
    """Takes the strips of a raster from top to bottom."""

    def __init__(self, borders: BorderFinder | None = None) -> None:
        """Take what is to find the borders between the objects of strips, which count from 1."""
        self._borders = borders
        self._row = self._count = 0
        self._firsts: list[int] = []
        self._parts: list[tuple[np.ndarray, ...]] = []
        self._seams: list[np.ndarray] = [np.empty((2, 0), np.int64)]
        self._last: tuple[np.ndarray, np.ndarray] | None = None

    def add(self, values_HW: np.ndarray, areas_HW: np.ndarray, weights_HW: np.ndarray | None = None) -> None:
        """Take the next strip.

        Args:
            values_HW: whole numbers; 0 belongs to no object.
        """
        labels_HW = _label(values_HW)
        count = int(labels_HW.max(initial=0))
        inside_HW = labels_HW > 0
        labels = labels_HW[inside_HW] - 1
        values_L, last_row_L = np.zeros(count, np.int64), np.zeros(count, np.int64)
        values_L[labels] = values_HW[inside_HW]
        last_row_L[labels] = np.nonzero(inside_HW)[0] + self._row  # rows ascend, and the last one stays
        weights = None if weights_HW is None else weights_HW[inside_HW]
        self._parts.append(
            (
                values_L,
                np.bincount(labels, minlength=count),
                np.bincount(labels, areas_HW[inside_HW], count),
                np.zeros(count) if weights is None else np.bincount(labels, weights, count),
                last_row_L,
            )
        )
        self._join(values_HW, labels_HW)
        if self._borders is not None:
            self._borders.add(np.where(inside_HW, labels_HW + self._count, 0))
        self._firsts.append(self._count)
        self._count += count
        self._row += len(values_HW)

    def __len__(self) -> int:
        """How many objects the strips have, those counted twice that go on across a seam."""
        return self._count

    def finish(self) -> Objects:
        """Return all objects."""
        above_S, below_S = np.concatenate(self._seams, axis=1)
        graph = coo_array((np.ones(len(above_S), bool), (above_S, below_S)), (self._count + 1, self._count + 1))
        _, number_L = connected_components(graph, directed=False)  # node 0 is what belongs to no object, on its own
        values_L, pixels_L, area_L, weight_L, last_row_L = (
            np.concatenate([np.zeros(1), *parts]) for parts in zip(*self._parts, strict=True)
        )
        count = int(number_L.max()) + 1
        value_N, last_row_N = np.zeros(count, np.int64), np.zeros(count, np.int64)
        value_N[number_L] = values_L
        np.maximum.at(last_row_N, number_L, last_row_L.astype(np.int64))  # two parts of a strip may end in other rows
        sums = [np.bincount(number_L, values, count)[1:] for values in (pixels_L, area_L, weight_L)]
        return Objects(
            value_N[1:], sums[0].astype(np.int64), sums[1], sums[2], last_row_N[1:], number_L, tuple(self._firsts)
        )

    def _join(self, values_HW: np.ndarray, labels_HW: np.ndarray) -> None:
        """Note which objects go on across the seam with the strip above."""
        if self._last is not None:
            values_W, nodes_W = self._last
            same_W = (values_W == values_HW[0]) & (values_W > 0)
            pairs = np.stack([nodes_W[same_W], labels_HW[0][same_W] + self._count])
            self._seams.append(np.unique(pairs, axis=1))
        self._last = values_HW[-1].copy(), labels_HW[-1] + self._count


def _label(values_HW: np.ndarray) -> np.ndarray:
    return np.asarray(label(values_HW.astype(np.int32), background=0, connectivity=1))  # type: ignore[no-untyped-call]
