"""The numbers that a run reports, read from its events piece by piece and thinned to what a chart can show. No Qt."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

EVENTS = "events.jsonl"
MOST_POINTS = 500
AT_ONCE_BYTES = 2**17
"""Read in one go: about a thousand events, a few milliseconds."""


class Point(NamedTuple):
    """A value, and when it was: the step, and the minutes that the run had been at work."""

    step: float
    minutes: float
    value: float


class Curve:
    """A number over time in at most 500 points, each the mean of as many values as needed for that."""

    def __init__(self) -> None:
        self._points: list[Point] = []
        self._each = 1
        self._bucket: list[Point] = []

    def add(self, point: Point) -> None:
        """Take the next value; a step that comes again, after a restart, takes the place of what came later."""
        while self._bucket and self._bucket[-1].step >= point.step:
            self._bucket.pop()
        while self._points and self._points[-1].step >= point.step:
            self._points.pop()
        self._bucket.append(point)
        if len(self._bucket) == self._each:
            self._points.append(_mean(self._bucket))
            self._bucket = []
        if len(self._points) == MOST_POINTS:
            pairs = zip(self._points[::2], self._points[1::2])
            self._points = [_mean(list(pair)) for pair in pairs]
            self._each *= 2

    def points(self) -> list[Point]:
        """Return the points, with the latest values as the last one."""
        return [*self._points, _mean(self._bucket)] if self._bucket else list(self._points)


class CurveReader:
    """The curves of a run, by name, as far as its events were read."""

    def __init__(self, folder: Path) -> None:
        self.curves: dict[str, Curve] = {}
        self._path = folder / EVENTS
        self._position = 0
        self._seconds = 0.0
        self._moment: datetime | None = None

    def read(self) -> bool:
        """Read the next events, a bounded number of them; tells whether there are more."""
        try:
            with open(self._path, "rb") as file:
                file.seek(self._position)
                text = file.read(AT_ONCE_BYTES)
        except OSError:
            return False
        end = text.rfind(b"\n") + 1
        for line in text[:end].splitlines():
            if b'"type": "metric"' in line:
                self._take(json.loads(line))
            elif b'"type": "device"' in line:  # a start: the time since the last event was not work
                self._moment = _moment(json.loads(line))
        self._position += end
        return end > 0 and len(text) == AT_ONCE_BYTES

    def _take(self, event: dict[str, Any]) -> None:
        moment = _moment(event)
        if self._moment is not None:
            self._seconds += max((moment - self._moment).total_seconds(), 0)
        self._moment = moment
        point = Point(event["step"], self._seconds / 60, event["value"])
        self.curves.setdefault(event["name"], Curve()).add(point)


def _moment(event: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(event["time"])


def _mean(points: list[Point]) -> Point:
    """Return the mean value of some points, where the last of them is."""
    return Point(points[-1].step, points[-1].minutes, sum(point.value for point in points) / len(points))
