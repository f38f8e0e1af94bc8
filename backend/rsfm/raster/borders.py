"""Borders between the objects of a raster, found strip by strip, and what joins across them.

Node 0 is all that belongs to no object: nodata, and what lies beyond the raster's edge.

Shape letters: H rows, W columns, L objects of single strips, M objects and node 0, E borders, G groups.
"""

from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

PARTS = 1024
"""Lengths are counted in this part of a pixel's longer side: whole numbers, so equal borders are equal."""


class Borders(NamedTuple):
    """Which nodes touch by an edge, each pair once, the lower first.

    Attributes:
        pairs_2E: int64.
        length_E: int64; only their order means something.
    """

    pairs_2E: np.ndarray
    length_E: np.ndarray

    def renumber(self, number_L: np.ndarray) -> "Borders":
        """Give nodes other numbers; borders within one node are gone, and those of one pair are added up."""
        return _add_up(number_L[self.pairs_2E].astype(np.int64), self.length_E)


class BorderFinder:
    """Takes the nodes of the pixels, strip by strip, from top to bottom."""

    def __init__(self, sides: tuple[float, float]) -> None:
        """Take the height and the width of a pixel, in one unit."""
        self._height, self._width = (round(PARTS * side / max(sides)) for side in sides)
        self._parts: list[Borders] = []
        self._last_W: np.ndarray | None = None

    def add(self, nodes_HW: np.ndarray) -> None:
        """Take the next strip."""
        nothing_W, nothing_H = np.zeros(nodes_HW.shape[1], nodes_HW.dtype), np.zeros(len(nodes_HW), nodes_HW.dtype)
        found = [
            self._between(nodes_HW[:, :-1], nodes_HW[:, 1:], self._height),
            self._between(nodes_HW[:-1], nodes_HW[1:], self._width),
            self._between(nothing_H, nodes_HW[:, 0], self._height),
            self._between(nodes_HW[:, -1], nothing_H, self._height),
            self._between(nothing_W if self._last_W is None else self._last_W, nodes_HW[0], self._width),
        ]
        self._parts.append(_joined(found))
        self._last_W = nodes_HW[-1].copy()

    def finish(self) -> Borders:
        """Return the borders of all strips."""
        if self._last_W is not None:
            self._parts.append(self._between(self._last_W, np.zeros_like(self._last_W), self._width))
        return _joined(self._parts)

    def _between(self, nodes: np.ndarray, others: np.ndarray, length: int) -> Borders:
        differ = nodes != others
        pairs_2E = np.stack([nodes[differ], others[differ]]).astype(np.int64)
        return _add_up(pairs_2E, np.full(pairs_2E.shape[1], length))


def join_small(
    value_M: np.ndarray, area_M: np.ndarray, borders: Borders, minimum: float, fixed_M: np.ndarray | None = None
) -> np.ndarray:
    """Let objects below a minimum area join the neighbour with the longest common border, and say where each went.

    It goes in rounds: those join that are smaller than all their small neighbours. Of equal borders the one with the
    larger neighbour counts, then the one with the lower number. What touches and has one value then is one object.

    Args:
        fixed_M: objects that stay whatever their area.

    Returns:
        into_M: the object that each has become part of; one that only borders nodata stays its own.
    """
    graph = _Graph(
        value_M, area_M, np.zeros(len(value_M), bool) if fixed_M is None else fixed_M, np.arange(len(value_M)), borders
    )
    group_M = np.arange(len(value_M))
    while True:
        movers, targets = graph.choose(minimum)
        if not len(movers):
            return np.asarray(graph.owner_G[group_M])
        graph, renumbered = graph.join(movers, targets)
        group_M = renumbered[group_M]


def fill_holes(area_M: np.ndarray, borders: Borders, largest: float) -> np.ndarray:
    """Let what one object encloses join it where all of that is smaller than `largest`, and say where each went.

    What touches nodata or the raster's edge is not enclosed. An object encloses what cannot be reached from there
    without it: the subtrees below it whose low point lies no higher (Hopcroft and Tarjan, 1973, "Efficient Algorithms
    for Graph Manipulation", Communications of the ACM 16).

    Returns:
        into_M: the object that each has become part of.
    """
    first, neighbours = _neighbours(borders, len(area_M))
    parent, seen, low = [-1] * len(area_M), [-1] * len(area_M), [0] * len(area_M)
    inside, order, enclosed = area_M.tolist(), [0], [False] * len(area_M)
    seen[0], stack, unread = 0, [0], list(first[:-1])
    while stack:
        node = stack[-1]
        if unread[node] < first[node + 1]:
            other = neighbours[unread[node]]
            unread[node] += 1
            if seen[other] < 0:
                parent[other], seen[other], low[other] = node, len(order), len(order)
                order.append(other)
                stack.append(other)
            else:
                low[node] = min(low[node], seen[other])
            continue
        stack.pop()
        above = parent[node]
        if above > 0:
            enclosed[node] = low[node] >= seen[above] and inside[node] < largest
            low[above] = min(low[above], low[node])
            inside[above] += inside[node]
    into = list(range(len(area_M)))
    for node in order[1:]:  # from the outside inwards
        if enclosed[node] or into[parent[node]] != parent[node]:
            into[node] = into[parent[node]]
    return np.array(into)


class _Graph(NamedTuple):
    """Groups of objects; `owner_G` is the object whose value a group has."""

    value_G: np.ndarray
    area_G: np.ndarray
    fixed_G: np.ndarray
    owner_G: np.ndarray
    borders: Borders

    def choose(self, minimum: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the groups that join in this round, and which group each joins."""
        small_G = (self.area_G < minimum) & ~self.fixed_G
        pairs_2E, length_E = self.borders
        a, b = np.concatenate([pairs_2E, pairs_2E[::-1]], axis=1)
        kept = (a > 0) & (b > 0) & small_G[a]
        a, b, length = a[kept], b[kept], np.concatenate([length_E, length_E])[kept]
        waits = small_G[b] & ((self.area_G[b] < self.area_G[a]) | ((self.area_G[b] == self.area_G[a]) & (b < a)))
        waits_G = np.zeros(len(small_G), bool)
        waits_G[a[waits]] = True
        a, b, length = (part[~waits_G[a]] for part in (a, b, length))
        order = np.lexsort((-b, self.area_G[b], length, a))
        a, b = a[order], b[order]
        best = np.append(a[1:] != a[:-1], True)[: len(a)]
        return a[best], b[best]

    def join(self, movers: np.ndarray, targets: np.ndarray) -> tuple["_Graph", np.ndarray]:
        """Return the groups after a round, and the new number of each old one."""
        value_G = self.value_G.copy()
        value_G[movers] = value_G[targets]
        low, high = self.borders.pairs_2E
        same = (value_G[low] == value_G[high]) & (low > 0)
        size = len(value_G)
        graph = coo_array((np.ones(int(same.sum()), bool), (low[same], high[same])), (size, size))
        _, found_G = connected_components(graph, directed=False)
        _, first, number_G = np.unique(found_G, return_index=True, return_inverse=True)
        number_G = np.argsort(np.argsort(first))[number_G]  # by their first member, so that node 0 stays node 0
        count = len(first)
        stays_G = np.ones(size, bool)
        stays_G[movers] = False
        keeper = np.full(count, size)
        np.minimum.at(keeper, number_G[stays_G], np.flatnonzero(stays_G))
        area = np.bincount(number_G, self.area_G, count)
        fixed = np.bincount(number_G, self.fixed_G, count) > 0
        joined = _Graph(value_G[keeper], area, fixed, self.owner_G[keeper], self.borders.renumber(number_G))
        return joined, number_G


def _neighbours(borders: Borders, count: int) -> tuple[list[int], list[int]]:
    """Return the neighbours of all nodes in one list, and where those of each node begin."""
    a, b = np.concatenate([borders.pairs_2E, borders.pairs_2E[::-1]], axis=1)
    order = np.argsort(a, kind="stable")
    first = np.concatenate([[0], np.cumsum(np.bincount(a, minlength=count))])
    return first.tolist(), b[order].tolist()


def _joined(parts: list[Borders]) -> Borders:
    pairs_2E = np.concatenate([np.zeros((2, 0), np.int64), *(part.pairs_2E for part in parts)], axis=1)
    return _add_up(pairs_2E, np.concatenate([np.zeros(0, np.int64), *(part.length_E for part in parts)]))


def _add_up(pairs_2E: np.ndarray, length_E: np.ndarray) -> Borders:
    low, high = pairs_2E.min(axis=0), pairs_2E.max(axis=0)
    differ = low != high
    low, high, length_E = low[differ], high[differ], length_E[differ]
    count = int(high.max(initial=0)) + 1
    keys, inverse = np.unique(low * count + high, return_inverse=True)
    total = np.bincount(inverse, length_E, len(keys)).astype(np.int64)
    return Borders(np.stack([keys // count, keys % count]), total)
