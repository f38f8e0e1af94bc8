"""Which rasters show the same ground: the sweep says what the comparison of every pair says."""

from hypothesis import given
from hypothesis import strategies as st
from rsfm.raster.collection import Entry
from rsfm.raster.overlap import Footprint, groups, overlaps


def entry(number: int, footprint: Footprint | None, place: str = "") -> Entry:
    return Entry(path=f"{number}.tif", footprint=footprint, place=place)


def slow_groups(entries: list[Entry]) -> set[frozenset[str]]:
    """Join every pair that overlaps or is of one place, until nothing changes."""
    found = [{item.path} for item in entries]
    known = {item.path: item for item in entries}

    def near(one: Entry, other: Entry) -> bool:
        return overlaps(one.footprint, other.footprint) or (one.place != "" and one.place == other.place)

    merged = True
    while merged:
        merged = False
        for first in found:
            for second in found:
                if first is not second and any(near(known[a], known[b]) for a in first for b in second):
                    first |= second
                    found.remove(second)
                    merged = True
                    break
            if merged:
                break
    return {frozenset(group) for group in found}


boxes = st.tuples(st.integers(-180, 179), st.integers(-80, 79), st.integers(1, 30), st.integers(1, 20)).map(
    lambda box: (
        float(box[0]),
        float(box[1]),
        float(box[0] + box[2] - (360 if box[0] + box[2] > 180 else 0)),
        float(box[1] + box[3]),
    )
)


@given(st.lists(st.tuples(st.none() | boxes, st.sampled_from(["", "", "p", "q"])), max_size=14))
def test_groups_are_those_of_every_pair(parts):
    entries = [entry(number, box, place) for number, (box, place) in enumerate(parts)]
    assert {frozenset(item.path for item in group) for group in groups(entries)} == slow_groups(entries)


def test_touching_is_not_overlapping_and_180_degrees_is_crossed():
    assert not overlaps((0, 0, 1, 1), (1, 0, 2, 1))
    assert overlaps((0, 0, 1, 1), (0.9, 0.9, 2, 2))
    assert overlaps((179, 0, -179, 1), (-180, 0, -179.5, 1))
    assert overlaps((179, 0, -179, 1), (178, 0, -178, 1))
    assert not overlaps((179, 0, -179, 1), (0, 0, 10, 1))
    assert not overlaps(None, (0, 0, 1, 1))
