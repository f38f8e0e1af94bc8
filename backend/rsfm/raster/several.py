"""Which rasters are meant where one name stands for several: a collection, a folder, a pattern such as 2015/*.tif."""

import glob
import os
import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from rasterio.warp import transform_bounds

from rsfm.errors import UserError
from rsfm.raster.area import NUMBERS
from rsfm.raster.collection import SUFFIX, Collection, Entry, is_collection, load, save
from rsfm.raster.collection_source import MARK, source_name
from rsfm.raster.gather import gather
from rsfm.raster.grid import parse_bounds
from rsfm.raster.reader import short_name

GATHERED = f"rasters{SUFFIX}"


class Source(NamedTuple):
    """A raster: what its outputs are called after it, its source, and what is known of it."""

    name: str
    path: str
    entry: Entry


def is_several(source: str) -> bool:
    """Tell whether a name stands for several rasters."""
    if is_collection(source):
        return True
    if MARK in source or os.path.isfile(source):
        return False
    return glob.has_magic(source) or (os.path.isdir(source) and not _opens(source))


def find_sources(source: str, folder: Path) -> list[Source]:
    """Find the rasters that are meant, in the order of their dates.

    Args:
        folder: where a collection of what a folder or a pattern holds is written at the first start.

    Raises:
        UserError: there are none.
    """
    file = source
    if not is_collection(source):
        file = str(folder / GATHERED)
        if not os.path.isfile(file):
            save(Path(file), gather([source], "rasters", Path(file)).collection)
    collection = load(file, "raster")
    entries = [entry for entry in collection.entries if entry.used and entry.role == "imagery"]
    if not any(not entry.problem for entry in entries):
        raise UserError(_nothing(source, collection), "raster")
    entries.sort(key=lambda entry: entry.date or "9999")
    names = _names([entry.path for entry in entries])
    return [Source(name, source_name(file, entry), entry) for name, entry in zip(names, entries, strict=True)]


def area_of(area: str | None, source: Source, first: Source) -> str | None:
    """Express an area for a raster; bare coordinates are those of the first one's CRS."""
    if area is None or NUMBERS.fullmatch(area) is None or source.entry.crs == first.entry.crs:
        return area
    bounds = transform_bounds(first.entry.crs, source.entry.crs, *parse_bounds(area))
    return ",".join(f"{edge:.12g}" for edge in bounds)


def _opens(folder: str) -> bool:
    """Tell whether a folder is itself a raster, as GDAL's Zarr is."""
    return folder.rstrip("/\\").lower().endswith(".zarr")


def _names(paths: list[str]) -> list[str]:
    """Name rasters after their files; after their folders too, or with a number, where that tells too little."""
    short = [_safe(_stem(path)) for path in paths]
    count = Counter(short)
    longer = [
        name if count[name] == 1 else _safe(f"{Path(path).parent.name}_{_stem(path)}")
        for name, path in zip(short, paths, strict=True)
    ]
    found: list[str] = []
    for name in longer:
        number, free = 2, name
        while free.lower() in (each.lower() for each in found):
            free, number = f"{name}-{number}", number + 1
        found.append(free)
    return found


def _stem(path: str) -> str:
    return Path(short_name(path)).stem


def _safe(text: str) -> str:
    return re.sub(r"[^\w.-]+", "_", text).strip("._") or "raster"


def _nothing(source: str, collection: Collection) -> str:
    reasons = [entry.problem for entry in collection.entries if entry.problem]
    return (
        f"'{short_name(source)}' holds no raster that can be mapped. {reasons[0] if reasons else ''}".rstrip()
        + " Choose another one under 'Raster'."
    )
