"""Where to cut values so that a share of the area is above: the cuts of 0.1 %, 0.2 % ... No Qt."""

from __future__ import annotations

from collections.abc import Sequence

STEPS_PER_PERCENT = 10
ALL = 100 * STEPS_PER_PERCENT


def cut_at(cuts: Sequence[float], percent: float) -> float:
    """Return the value above which that share of the area lies."""
    place = round(percent * STEPS_PER_PERCENT) - 1
    return float(cuts[min(max(place, 0), len(cuts) - 1)])


def cuts_of(values: Sequence[float]) -> list[float]:
    """Return for each tenth of a percent up to 100 % the value above which at most that share of the values lies."""
    ordered = sorted(values, reverse=True)
    last = len(ordered) - 1
    return [float(ordered[min(step * len(ordered) // ALL, last)]) for step in range(1, ALL + 1)] if ordered else []
