"""Dates as people write them and as a collection keeps them: ISO 8601 in UTC. No Qt."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from typing import NamedTuple

ASSUMED_HOUR = 10
WRITTEN = re.compile(
    r"(?P<year>\d{4})(?P<dash>[-./]?)(?P<month>\d{1,2})(?P=dash)(?P<day>\d{1,2})"
    r"(?:[ T]+(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:\.\d+)?)?)?(?:Z|\+00:00)?"
)
ONE_DAY, LONGEST = timedelta(days=1), timedelta(days=31)


class Moment(NamedTuple):
    """A date; `hour_known` is False where only the day is known."""

    date: str
    hour_known: bool


def read_moment(text: str) -> Moment | None:
    """Read a date such as 2015-07-11, 20150711 or 2015-07-11 10:23; None where it is none."""
    found = WRITTEN.fullmatch(text.strip())
    if found is None or (not found["dash"] and len(found["month"] + found["day"]) < 4):
        return None
    hour_known = found["hour"] is not None
    hour, minute, second = (int(found[part] or 0) for part in ("hour", "minute", "second"))
    day = int(found["year"]), int(found["month"]), int(found["day"])
    try:
        moment = datetime(*day, hour if hour_known else ASSUMED_HOUR, minute, second, tzinfo=timezone.utc)
    except ValueError:
        return None
    return Moment(moment.isoformat(), hour_known)


def middle(begin: datetime, end: datetime) -> Moment | None:
    """Return the date of a range in UTC: its moment, its day, or the middle day; None for one longer than a month."""
    if end - begin > LONGEST or end < begin:
        return None
    if end == begin and (begin.hour or begin.minute):
        return Moment(begin.replace(tzinfo=timezone.utc).isoformat(), True)
    day = begin if end - begin <= ONE_DAY else begin + (end - begin) / 2
    return read_moment(f"{day:%Y-%m-%d}")


def day_of(date: str | None) -> str:
    """Return the day of a date; empty where there is none."""
    return (date or "")[:10]


def hour_of(date: str | None, hour_known: bool) -> str:
    """Return hours and minutes; empty where they are not known."""
    return (date or "")[11:16] if hour_known else ""
