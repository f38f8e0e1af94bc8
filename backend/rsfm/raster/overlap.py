"""Which rasters of a collection show the same ground, by their footprints in degrees."""

from collections.abc import Sequence

import numpy as np

from rsfm.raster.collection import Entry

Footprint = tuple[float, float, float, float]


def overlaps(first: Footprint | None, second: Footprint | None) -> bool:
    """Tell whether two footprints share ground; touching is not sharing. Both may cross 180°."""
    if first is None or second is None:
        return False
    if min(first[3], second[3]) <= max(first[1], second[1]):
        return False
    return any(min(one[1], other[1]) > max(one[0], other[0]) for one in _spans(first) for other in _spans(second))


def groups(entries: Sequence[Entry]) -> list[list[Entry]]:
    """Put entries together whose footprints overlap, directly or through others; entries of one place belong together.

    Each footprint is compared with all before it at once, so that thousands take no time for every pair.
    """
    label_N = np.arange(len(entries))
    places: dict[str, int] = {}
    for index, entry in enumerate(entries):
        if entry.place:
            label_N[index] = places.setdefault(entry.place, index)
    spans = _spans_of(entries)
    owners = np.array([index for index, *_ in spans], int)
    boxes = np.array([box for _, *box in spans], float).reshape(-1, 4)
    for place, (index, west, south, east, north) in enumerate(spans):
        before = boxes[:place]
        shared = (before[:, 0] < east) & (before[:, 2] > west) & (before[:, 1] < north) & (before[:, 3] > south)
        met = label_N[owners[:place][shared]]
        if (met != label_N[index]).any():
            label_N[np.isin(label_N, np.append(met, label_N[index]))] = label_N[index]
    found: dict[int, list[Entry]] = {}
    for entry, label in zip(entries, label_N.tolist(), strict=True):
        found.setdefault(label, []).append(entry)
    return list(found.values())


def _spans_of(entries: Sequence[Entry]) -> list[tuple[int, float, float, float, float]]:
    """Return the owner and the box of each footprint, cut at 180°."""
    return [
        (index, west, entry.footprint[1], east, entry.footprint[3])
        for index, entry in enumerate(entries)
        if entry.footprint
        for west, east in _spans(entry.footprint)
    ]


def _spans(footprint: Footprint) -> list[tuple[float, float]]:
    west, _, east, _ = footprint
    return [(west, east)] if west <= east else [(west, 180.0), (-180.0, east)]
