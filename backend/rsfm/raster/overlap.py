"""Which rasters of a collection show the same ground, by their footprints in degrees."""

from collections.abc import Sequence

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

    A sweep from west to east, so that thousands of rasters take no time for every pair.
    """
    parents = list(range(len(entries)))

    def root(index: int) -> int:
        while parents[index] != index:
            parents[index] = parents[parents[index]]
            index = parents[index]
        return index

    places: dict[str, int] = {}
    spans = sorted(
        (west, east, index)
        for index, entry in enumerate(entries)
        if entry.footprint
        for west, east in _spans(entry.footprint)
    )
    for index, entry in enumerate(entries):
        if entry.place:
            parents[root(index)] = root(places.setdefault(entry.place, index))
    active: list[tuple[float, int]] = []
    for west, east, index in spans:
        active = [(end, other) for end, other in active if end > west]
        for _, other in active:
            if overlaps(entries[index].footprint, entries[other].footprint):
                parents[root(index)] = root(other)
        active.append((east, index))
    found: dict[int, list[Entry]] = {}
    for index, entry in enumerate(entries):
        found.setdefault(root(index), []).append(entry)
    return list(found.values())


def _spans(footprint: Footprint) -> list[tuple[float, float]]:
    west, _, east, _ = footprint
    return [(west, east)] if west <= east else [(west, 180.0), (-180.0, east)]
