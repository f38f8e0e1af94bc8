"""Says on one page what is in a collection: what is usable, what is wrong, what to do about it."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from rsfm.raster.band_names import shared_bands
from rsfm.raster.collection import Collection, Entry, load
from rsfm.raster.collection_findings import count_of, find_trouble
from rsfm.raster.overlap import groups
from rsfm.raster.reader import short_name

ROWS_SHOWN = 40
"""Of more rasters, the page shows the first so many."""
SOURCES = {
    "table": "entered by hand",
    "metadata": "from metadata",
    "name": "from names",
    "layer": "from the layer",
    "none": "without a date",
}


def inspect_collection(path: str) -> str:
    """Describe a collection without opening its rasters; only whether their files are there is looked up.

    Raises:
        UserError: the file is no collection.
    """
    collection = load(path)
    missing = [entry for entry in collection.entries if _is_file(entry.path) and not Path(entry.path).exists()]
    lines = [f"{collection.name} ({short_name(path)})", *_describe(collection), *_table(collection.entries)]
    hints = list(find_trouble(collection))
    if missing:
        many = count_of(len(missing), "file is", "files are")
        hints.append(f"{many} gone, such as '{missing[0].path}'. Bring them back, or collect anew.")
    usable = bool(shared_bands(collection.imagery)) and not missing
    verdict = "can be learned from" if usable else "cannot be learned from as it is"
    lines += [f"  Verdict      {verdict}", *(f"  - {hint}" for hint in hints)]
    lines += [f"  - {entry.problem}" for entry in collection.entries if entry.used and entry.problem]
    lines += [f"  - {short_name(entry.path)}: {entry.note}" for entry in _noted(collection.imagery)]
    return "\n".join(lines)


def _describe(collection: Collection) -> Iterator[str]:
    entries = collection.imagery
    roles = Counter(entry.role for entry in collection.entries if not entry.problem)
    off = sum(not entry.used for entry in collection.entries)
    counts = [f"{count} {role}" for role, count in roles.most_common()]
    bad = sum(bool(entry.problem) for entry in collection.entries)
    counts += [f"{bad} unusable"] if bad else []
    counts += [f"{off} left out"] if off else []
    yield f"  Rasters      {len(collection.entries)}: {', '.join(counts)}"
    if not entries:
        return
    yield f"  Bands        {', '.join(shared_bands(entries)) or 'none that all have'}"
    yield f"  Sensors      {_counted(entry.sensor or 'not known' for entry in entries)}"
    yield f"  CRS          {_counted(entry.crs if len(entry.crs) < 40 else 'a CRS of its own' for entry in entries)}"
    sizes = sorted(entry.gsd for entry in entries)
    yield f"  Pixels       {sizes[0]:.4g} m" + (f" to {sizes[-1]:.4g} m" if sizes[-1] > 1.01 * sizes[0] else "")
    yield f"  Amount       {sum(entry.height * entry.width for entry in entries) / 1e6:,.4g} million pixels"
    yield f"  Valid        {_valid(entries)}"
    yield f"  Dates        {_dates(entries)}"
    yield f"  Groups       {_groups(entries)}"
    masked = sum(bool(entry.mask) for entry in entries)
    if masked:
        yield f"  Masks        {masked} of {len(entries)} have a mask of clouds"


def _table(entries: Sequence[Entry]) -> Iterator[str]:
    yield "  Rasters                          role     date              bands   pixel  valid"
    for entry in entries[:ROWS_SHOWN]:
        date = (entry.date or "no date")[: 16 if entry.hour_known else 10 if entry.month_known else 4].replace("T", " ")
        valid = "" if entry.valid is None else f"{entry.valid:.0%}"
        name = short_name(entry.path)
        shown = name if len(name) <= 30 else f"{name[:18]}...{name[-9:]}"
        mark = "!" if entry.problem else " " if entry.used else "-"
        yield (
            f"  {mark} {shown:<30} {entry.role:<8} {date:<16} {len(entry.bands):>6} {entry.gsd:>7.4g} {valid:>6}"
        ).rstrip()
    if len(entries) > ROWS_SHOWN:
        yield f"    and {len(entries) - ROWS_SHOWN} more"


def _valid(entries: Sequence[Entry]) -> str:
    known = [entry.valid for entry in entries if entry.valid is not None]
    if not known:
        return "not looked at"
    return f"{sum(known) / len(known):.1%} of the pixels on average, {min(known):.1%} at the least (from a sample)"


def _dates(entries: Sequence[Entry]) -> str:
    dates = sorted(entry.date[:10] for entry in entries if entry.date)
    sources = Counter(entry.date_source for entry in entries)
    told = ", ".join(f"{count} {SOURCES[source]}" for source, count in sources.most_common())
    hours = sum(entry.hour_known for entry in entries)
    span = f"{dates[0]} to {dates[-1]}: " if dates else ""
    return f"{span}{told}; the hour is known of {hours}, else 10 h is assumed"


def _groups(entries: Sequence[Entry]) -> str:
    """Say how many places there are, and where several dates of one allow methods that compare dates."""
    found = groups(entries)
    dated = [len({entry.date[:10] for entry in group if entry.date}) for group in found]
    many = [count for count in dated if count > 1]
    if not many:
        return (
            f"{_places(len(found))}, none with more than one date: methods that compare dates have nothing to compare"
        )
    return f"{_places(len(found))}, {len(many)} with two dates or more (up to {max(many)})"


def _places(count: int) -> str:
    return count_of(count, "place", "places")


def _noted(entries: Sequence[Entry]) -> list[Entry]:
    """Return an entry for each different note, as one example says it."""
    return list({entry.note: entry for entry in reversed(entries) if entry.note}.values())[::-1]


def _counted(values: Iterable[str]) -> str:
    return ", ".join(f"{value} ({count})" for value, count in Counter(values).most_common(6))


def _is_file(path: str) -> bool:
    return "://" not in path and ":" not in path[2:] and not path.startswith("/vsi")
