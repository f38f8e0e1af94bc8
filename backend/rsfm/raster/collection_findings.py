"""What is wrong with a collection as a whole, in sentences: what was found, and what to do about it."""

from collections import Counter
from collections.abc import Iterator

from rsfm.raster.band_names import shared_bands
from rsfm.raster.collection import Collection, Entry
from rsfm.raster.known_sensors import RADAR
from rsfm.raster.reader import short_name

LARGEST_RATIO = 2.0
"""Pixel sizes that differ by more are not read on one grid."""


def find_trouble(collection: Collection) -> Iterator[str]:
    """Name what should be looked at before learning from a collection."""
    entries = collection.imagery
    unusable = sum(bool(entry.problem) for entry in collection.entries)
    if unusable:
        yield f"{unusable} of {len(collection.entries)} rasters cannot be used; each says why. The others can."
    if not entries:
        return
    yield from _bands(entries)
    yield from _pixels(entries)
    yield from _places(entries)
    yield from _dates(entries)


def _bands(entries: tuple[Entry, ...]) -> Iterator[str]:
    shared = shared_bands(entries)
    every = list(dict.fromkeys(band.name for entry in entries for band in entry.bands))
    if not shared:
        kinds = Counter(", ".join(band.name for band in entry.bands) for entry in entries).most_common(2)
        yield (
            f"The rasters share no band: some have {kinds[0][0]}, others {kinds[-1][0]}. Uncheck one kind, or correct "
            "the names under 'Bands'."
        )
    elif any(len(entry.bands) > len(shared) for entry in entries):
        lacking = [name for name in every if name not in shared]
        shown = ", ".join(lacking[:8]) + (" ..." if len(lacking) > 8 else "")
        yield f"Only {', '.join(shared)} are in all rasters and will be used; left out are {shown}."
    if all(name.startswith("Band ") for name in every) and len({len(entry.bands) for entry in entries}) == 1:
        yield "No band has a name, so they are matched by number. Name them under 'Bands' if their order differs."


def _pixels(entries: tuple[Entry, ...]) -> Iterator[str]:
    finest = min(entries, key=lambda entry: entry.gsd)
    coarsest = max(entries, key=lambda entry: entry.gsd)
    if finest.gsd and coarsest.gsd > LARGEST_RATIO * finest.gsd:
        yield (
            f"Pixels are from {finest.gsd:.3g} m ('{short_name(finest.path)}') to {coarsest.gsd:.3g} m "
            f"('{short_name(coarsest.path)}'): beyond twice the size they are not learned from together as dates of "
            "one place. Make a collection of each."
        )
    systems = {entry.crs for entry in entries}
    if len(systems) > 1:
        main = Counter(entry.crs for entry in entries).most_common(1)[0][0]
        others = sum(entry.crs != main for entry in entries)
        what = count_of(others, "raster has another CRS", "rasters have another CRS")
        yield f"{what} than most ({main if len(main) < 20 else 'their own'}): warped while reading, no copy is made."
    types = sorted({entry.dtype for entry in entries})
    if len(types) > 1:
        yield f"Values are of different types ({', '.join(types)}): check their scaling."
    radar = {entry.decibel for entry in entries if any(band.name in RADAR for band in entry.bands)}
    if len(radar) > 1:
        yield "Some radar rasters are in decibels and others are not: make a collection of each."


def _places(entries: tuple[Entry, ...]) -> Iterator[str]:
    same = Counter(
        (entry.place, entry.footprint, entry.date, entry.height, entry.width, tuple(band.name for band in entry.bands))
        for entry in entries
        if entry.footprint and entry.date
    )
    doubles = sum(count - 1 for count in same.values() if count > 1)
    if doubles:
        many = count_of(doubles, "raster has", "rasters have")
        yield f"{many} the place, date, size and bands of another: uncheck the copies."
    empty = [entry for entry in entries if entry.valid is not None and entry.valid < 0.1]
    if empty:
        many = count_of(len(empty), "raster is", "rasters are")
        yield f"{many} more than nine tenths nodata, such as '{short_name(empty[0].path)}'."


def _dates(entries: tuple[Entry, ...]) -> Iterator[str]:
    undated = [entry for entry in entries if entry.date is None]
    if undated and len(undated) < len(entries):
        many = count_of(len(undated), "raster has", "rasters have")
        yield (
            f"{many} no date, such as '{short_name(undated[0].path)}'. Enter it under 'Dates'; methods that compare "
            "dates leave them out."
        )
    rough = sum(not entry.month_known for entry in entries)
    if rough:
        many = count_of(rough, "raster", "rasters")
        yield f"Of {many} only the year is known, and June is assumed. Enter the dates under 'Dates'."


def count_of(count: int, one: str, many: str) -> str:
    """Count in words, such as "1 raster is" and "2 rasters are"."""
    return f"{count} {one if count == 1 else many}"
