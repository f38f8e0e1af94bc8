"""When a raster was taken, from its metadata or its name; never from the time its file was written.

A number that is no date must not become one: what is not clearly a date gives none, and the user says it.
"""

import re
from calendar import month_abbr
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import PurePath
from typing import Literal, NamedTuple

Precision = Literal["year", "month", "day", "hour"]

FIRST_YEAR = 1970
USUAL_HOUR, USUAL_MONTH, USUAL_DAY = 10, 6, 15
"""What is assumed where a date does not say it: a typical overpass, the middle of the year, of the month."""
FOLDERS_SEARCHED = 4

TAGS = (
    "ACQUISITIONDATETIME",
    "ACQUISITION_DATETIME",
    "DATATAKE_1_DATATAKE_SENSING_START",
    "DATATAKE_SENSING_START",
    "PRODUCT_START_TIME",
    "SENSING_TIME",
    "SENSING_START",
    "FIRSTLINETIME",
    "DATE_ACQUIRED",
    "ACQUISITION_DATE",
    "ACQUISITIONDATE",
    "ACQUIRED",
    "DATETIME",
    "DATE",
    "YEAR",
)
"""Metadata that tells when a raster was taken, the most exact first."""
TAG_OF_WRITING = "TIFFTAG_DATETIME"
"""Meant as the time of the picture, but most programs enter the time at which they wrote the file."""
NOT_BEFORE_A_YEAR = frozenset(
    (
        *(
            "wgs",
            "nad",
            "etrs",
            "gda",
            "sirgas",
            "epsg",
            "crs",
            "esri",
            "srid",
            "tile",
            "band",
            "zone",
            "sheet",
            "part",
        ),
        *("block", "id", "nr", "no", "v", "version", "bin", "run", "px", "size", "dim", "h", "w", "x", "y", "z", "n"),
        *("s", "e", "path", "row", "orbit", "r"),
    )
)
MONTHS = {name.lower(): number for number, name in enumerate(month_abbr) if name}
_MONTH = "|".join(MONTHS)
_START = r"(?<!\d)(?<!\d\.)"
_FREE = r"(?<![A-Za-z0-9])(?<!\d\.)"
_CLOCK = r"(?P<clock>\d{4}(?:\d\d)?)(?:\.\d+)?(?:Z|[+-]\d\d:?\d\d)?"
_COLON_CLOCK = r"(?P<H>\d\d):(?P<M>\d\d)(?::(?P<S>\d\d)(?:\.\d+)?)?"
PATTERNS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"{_START}(?P<y>\d{{4}})(?P<m>\d\d)(?P<d>\d\d)T{_CLOCK}(?!\d)",
        rf"{_START}(?P<y>\d{{4}})(?P<j>\d{{3}})T{_CLOCK}(?!\d)",  # HLS: the day of the year
        rf"{_START}(?P<y>\d{{4}})-(?P<m>\d\d)-(?P<d>\d\d)[T_ -](?P<H>\d\d)[:_-]?(?P<M>\d\d)[:_-]?(?P<S>\d\d)(?!\d)",
        rf"{_START}(?P<y>\d{{4}})(?P<m>\d\d)(?P<d>\d\d)[_-](?P<clock>\d{{6}})(?!\d)",  # Planet
        rf"{_FREE}(?P<yy>\d\d)(?P<b>{_MONTH})(?P<d>\d\d)(?P<clock>\d{{6}})-[MPS]\d[AB]S",  # Maxar
        rf"{_FREE}L[COTEM]\d\d{{6}}(?P<y>\d{{4}})(?P<j>\d{{3}})[A-Z]{{3}}\d\d(?!\d)",  # Landsat before collections
        r"(?<![A-Za-z0-9])A(?P<y>\d{4})(?P<j>\d{3})(?!\d)",  # MODIS
        rf"{_START}(?P<y>\d{{4}})(?P<s>[-_.])(?P<m>\d\d)(?P=s)(?P<d>\d\d)(?!\d)",
        rf"{_START}(?P<y>\d{{4}})(?P<m>\d\d)(?P<d>\d\d)(?!\d)",
        rf"{_FREE}(?P<d>\d\d?)[ _.-]?(?P<b>{_MONTH})[a-z]{{0,6}}[ _.-]?(?P<y>\d{{4}})(?!\d)",
        rf"{_FREE}(?P<y>\d{{4}})[ _.-]?(?P<b>{_MONTH})[a-z]{{0,6}}[ _.-]?(?P<d>\d\d?)(?!\d)",
        rf"{_FREE}(?P<b>{_MONTH})[a-z]{{0,6}}[ _.-]?(?P<y>\d{{4}})(?!\d)",
        rf"{_FREE}(?P<y>\d{{4}})[ _.-]?(?P<b>{_MONTH})[a-z]{{0,6}}(?![A-Za-z0-9])",
        rf"{_FREE}(?P<d>1[3-9]|2\d|3[01])(?P<s>[-_.])(?P<m>\d\d)(?P=s)(?P<y>\d{{4}})(?!\d)",
        rf"{_FREE}(?P<m>\d\d)(?P<s>[-_.])(?P<d>1[3-9]|2\d|3[01])(?P=s)(?P<y>\d{{4}})(?!\d)",
        rf"{_FREE}(?P<y>\d{{4}})[-_](?P<m>\d\d)(?![A-Za-z0-9])(?![-_]\d\d(?!\d))",
    )
)  # fmt: skip
_YEAR = re.compile(rf"{_FREE}(\d{{4}})(?![A-Za-z0-9])(?!\.\d)")
_TAG = re.compile(
    rf"\s*(?P<y>\d{{4}})(?:[-:/.]?(?P<m>\d\d)(?:[-:/.]?(?P<d>\d\d)(?:[T ]+{_COLON_CLOCK}|T?{_CLOCK})?)?)?\s*"
    r"(?P<zone>Z|UTC|GMT|[+-]\d\d:?(?:\d\d)?)?\s*"
)


class Acquisition(NamedTuple):
    """A moment in UTC and how much of it is known; the rest is assumed."""

    moment: datetime
    precision: Precision

    @property
    def iso(self) -> str:
        return self.moment.isoformat(timespec="seconds")


class Dated(NamedTuple):
    """When a raster was taken: where that comes from, and what is to be said about it."""

    acquisition: Acquisition | None
    source: Literal["metadata", "name", "none"]
    note: str = ""


def date_raster(tags: Mapping[str, str], path: str, not_years: frozenset[int] = frozenset()) -> Dated:
    """Find when a raster was taken.

    Args:
        tags: its metadata, of all domains.
        not_years: numbers that a name may hold for another reason, such as its size in pixels.
    """
    told = from_tags(tags)
    named = from_path(path, not_years)
    if told is not None:
        return Dated(told, "metadata", _assumed(told))
    written = parse_tag(_upper(tags).get(TAG_OF_WRITING, ""))
    if named is not None and (written is None or _is_day(named)):
        note = _assumed(named)
        if written is not None and written.moment.date() != named.moment.date():
            note = (
                f"Its name says {named.moment.date()}, its tag {TAG_OF_WRITING} {written.moment.date()}, which may be "
                "when the file was written: the name is believed."
            )
        return Dated(named, "name", note)
    if written is not None:
        return Dated(written, "metadata", f"The date is its tag {TAG_OF_WRITING}: check that it is no date of writing.")
    return Dated(None, "none")


def from_tags(tags: Mapping[str, str]) -> Acquisition | None:
    """Read the date of metadata; the most exact tag counts."""
    known = _upper(tags)
    found = [parsed for name in TAGS if (parsed := parse_tag(known.get(name, ""))) is not None]
    clock = known.get("SCENE_CENTER_TIME", "").strip('" ')
    if clock and "DATE_ACQUIRED" in known and (exact := parse_tag(f"{known['DATE_ACQUIRED'].strip()}T{clock}")):
        found.insert(0, exact)
    return max(found, key=lambda each: _rank(each.precision), default=None)


def parse_tag(text: str) -> Acquisition | None:
    """Read a date as metadata writes it, such as "2015:07:11 10:00:06" or "2015-07-11T12:00:06+02:00"."""
    match = _TAG.fullmatch(text.strip().strip('"'))
    if match is None or not match["y"]:
        return None
    found = _moment(match.groupdict())
    if found is None or not match["zone"] or match["zone"] in {"Z", "UTC", "GMT"} or found.precision != "hour":
        return found
    sign, digits = match["zone"][0], match["zone"][1:].replace(":", "").ljust(4, "0")
    shift = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return _plausible(found.moment - shift if sign == "+" else found.moment + shift, "hour")


def from_path(path: str, not_years: frozenset[int] = frozenset()) -> Acquisition | None:
    """Read the date of a file's name, then of the folders it lies in.

    A folder may say more of the date in the name, such as the month of its year, but may not say another.
    """
    pure = PurePath(path)
    best = from_name(pure.stem, not_years)
    for folder in list(pure.parents)[:FOLDERS_SEARCHED]:
        if best is not None and _is_day(best):
            return best
        found = from_name(folder.name, not_years)
        if found is not None and found.precision == "year" and not re.fullmatch(r"\d{4}", folder.name):
            found = None  # "project-1999": too little to go by, in a folder
        if found is None:
            found = _nested(folder)
        if found is not None and (best is None or _refines(found, best)):
            best = found
    return best


def from_name(name: str, not_years: frozenset[int] = frozenset()) -> Acquisition | None:
    """Read the date of one name: the most exact kind of pattern counts, and of that the first in the name."""
    found = [each for pattern in PATTERNS for each in _matches(pattern, name)]
    if found:
        return max(found, key=lambda each: _rank(each.precision))
    years = {int(match[1]) for match in _YEAR.finditer(name) if not _follows_no_year(name[: match.start()])}
    moments = [_plausible(datetime(year, USUAL_MONTH, USUAL_DAY, USUAL_HOUR, tzinfo=UTC), "year")
               for year in years - not_years if year >= 1]  # fmt: skip
    known = [each for each in moments if each is not None]
    return known[0] if len(known) == 1 else None


def _matches(pattern: re.Pattern[str], name: str) -> Iterator[Acquisition]:
    for match in pattern.finditer(name):
        found = _moment(match.groupdict())
        if found is not None:
            yield found


def _moment(parts: Mapping[str, str | None]) -> Acquisition | None:
    """Put a moment together from what a pattern caught; None where it is no date."""
    year = int(parts.get("y") or 2000 + int(parts.get("yy") or 0))
    day_of_year, name, month, day = (parts.get(key) for key in ("j", "b", "m", "d"))
    try:
        if day_of_year:
            whole = date(year, 1, 1) + timedelta(days=int(day_of_year) - 1)
            if whole.year != year:
                return None
        else:
            number = MONTHS[name.lower()] if name else int(month or USUAL_MONTH)
            whole = date(year, number, int(day or USUAL_DAY))
        precision: Precision = "day" if day or day_of_year else "month" if month or name else "year"
        clock = _clock(parts) if precision == "day" else None
        hour, minute, second = clock or (USUAL_HOUR, 0, 0)
        moment = datetime(whole.year, whole.month, whole.day, hour, minute, second, tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
    return _plausible(moment, "hour" if clock else precision)


def _clock(parts: Mapping[str, str | None]) -> tuple[int, int, int] | None:
    """Return hour, minute, second; None where none is told, or what is told is no time of day."""
    digits = parts.get("clock") or "".join(parts.get(key) or "" for key in "HMS")
    if not digits:
        return None
    hour, minute, second = (int(digits[start : start + 2] or 0) for start in (0, 2, 4))
    return (hour, minute, min(second, 59)) if hour < 24 and minute < 60 and second < 61 else None


def _plausible(moment: datetime, precision: Precision) -> Acquisition | None:
    """Refuse what no satellite took, and what lies ahead."""
    ahead = datetime.now(UTC) + timedelta(days=1)
    latest = ahead.replace(month=12, day=31) if precision == "year" else ahead
    return Acquisition(moment, precision) if moment.year >= FIRST_YEAR and moment <= latest else None


def _nested(folder: PurePath) -> Acquisition | None:
    """Read folders such as 2020/06/15 and 2020/06."""
    day, month, year = folder.name, folder.parent.name, folder.parent.parent.name
    if all(re.fullmatch(r"\d{1,2}", part) for part in (day, month)) and re.fullmatch(r"\d{4}", year):
        return _moment({"y": year, "m": month, "d": day})
    if re.fullmatch(r"\d{1,2}", day) and re.fullmatch(r"\d{4}", month):
        return _moment({"y": month, "m": day})
    return None


def _refines(found: Acquisition, rough: Acquisition) -> bool:
    """Tell whether a date says more than a rougher one and does not contradict it."""
    same_month = rough.precision == "year" or found.moment.month == rough.moment.month
    return _rank(found.precision) > _rank(rough.precision) and found.moment.year == rough.moment.year and same_month


def _follows_no_year(before: str) -> bool:
    words = re.findall(r"[A-Za-z]+(?=[^A-Za-z]*$)", before)
    return bool(words) and words[-1].lower() in NOT_BEFORE_A_YEAR and before.rstrip(" _.-").endswith(words[-1])


def _rank(precision: Precision) -> int:
    return ("year", "month", "day", "hour").index(precision)


def _is_day(found: Acquisition) -> bool:
    return _rank(found.precision) >= _rank("day")


def _upper(tags: Mapping[str, str]) -> dict[str, str]:
    return {name.upper(): str(value) for name, value in tags.items()}


def _assumed(found: Acquisition) -> str:
    if found.precision == "year":
        return "Only the year is known: the middle of June is assumed."
    return "Only the month is known: its middle is assumed." if found.precision == "month" else ""
