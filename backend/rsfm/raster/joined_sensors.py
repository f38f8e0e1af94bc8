"""Joins radar and optical rasters of one place into one raster, so that an encoder sees both sensors."""

import math
import zlib
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree as ET

from affine import Affine

from rsfm.raster.collection import SUFFIX, Band, Entry
from rsfm.raster.entry_raster import entry_grid
from rsfm.raster.footprint import footprint
from rsfm.raster.grid import Grid
from rsfm.raster.known_sensors import is_radar
from rsfm.raster.overlap import groups
from rsfm.raster.reader import short_name
from rsfm.raster.scene_vrt import add_filename, add_window, write_tree

MOST_RATIO = 2.0
"""Pixel sizes that differ more are not joined."""
LEAST_SHARED = 0.5
"""Share of the optical raster that both must show."""


class Joined(NamedTuple):
    """All entries, those that were joined set aside, and what to tell the user."""

    entries: list[Entry]
    warnings: list[str]


class _Overlap(NamedTuple):
    """The part of an optical grid that a radar raster shows too, in whole pixels."""

    row: int
    column: int
    height: int
    width: int


def join_sensors(entries: Sequence[Entry], days: int, target: Path) -> Joined:
    """Join each optical raster with the radar raster of its place that was taken nearest to it.

    Both must be in one CRS. The joined raster is a VRT beside the collection, on the optical grid, as far as both
    reach. What was joined, or could not be, stays in the table but is not used.

    Args:
        days: the most that lie between the two dates.
        target: the collection's file.
    """
    usable = [entry for entry in entries if entry.used and entry.role == "imagery" and not entry.problem]
    known = {entry.path: entry for entry in entries}
    made: list[Entry] = []
    optical = [entry for entry in usable if not _is_radar(entry) and not _is_joined(entry)]
    taken: set[str] = set()
    for group in groups(usable):
        radar = [entry for entry in group if _is_radar(entry)]
        for entry in group:
            if entry not in optical:
                continue
            found = _nearest(entry, radar, days)
            if found is not None:
                taken.add(entry.path)
                made.append(_join(entry, *found, target))
    aside = {entry.path for entry in optical} | {entry.path for entry in usable if _is_radar(entry)}
    kept = [entry.model_copy(update={"used": False}) if entry.path in aside else entry for entry in entries]
    fresh = [entry for entry in made if entry.path not in known]
    return Joined([*kept, *fresh], _warnings(len(optical), len(optical) - len(taken), days))


def _warnings(optical: int, alone: int, days: int) -> list[str]:
    if not alone:
        return (
            [] if optical else ["There is no optical raster to join with radar. Add one, or set 'Join sensors' to 0."]
        )
    return [
        f"{alone} of {optical} optical rasters have no radar raster of the same place and CRS within {days} days, and "
        "are left out. Tick them in the table to use them alone, or choose more days under 'Join sensors'."
    ]


def _is_radar(entry: Entry) -> bool:
    return bool(entry.bands) and all(is_radar(band.name) for band in entry.bands)


def _is_joined(entry: Entry) -> bool:
    return len({is_radar(band.name) for band in entry.bands}) > 1


def _nearest(entry: Entry, radar: Sequence[Entry], days: int) -> tuple[Entry, _Overlap] | None:
    """Return the radar raster that was taken nearest to an optical one, and what both show."""
    fitting: list[tuple[float, Entry, _Overlap]] = []
    for other in radar:
        apart = _days_between(entry, other)
        near = apart is not None and apart <= days and other.place == entry.place
        shared = _overlap(entry, other) if near else None
        if apart is not None and shared is not None:
            fitting.append((apart, other, shared))
    best = min(fitting, key=lambda each: (each[0], each[1].path), default=None)
    return None if best is None else (best[1], best[2])


def _days_between(first: Entry, second: Entry) -> float | None:
    if not first.date or not second.date:
        return None
    return abs((datetime.fromisoformat(first.date) - datetime.fromisoformat(second.date)).total_seconds()) / 86400


def _overlap(entry: Entry, other: Entry) -> _Overlap | None:
    """Find what both show; None where they do not fit together."""
    mine, theirs = Affine(*entry.transform), Affine(*other.transform)
    upright = all(each.b == each.d == 0 and each.a > 0 > each.e for each in (mine, theirs))
    ratio = abs(theirs.a / mine.a) if upright else math.inf
    if not upright or entry.crs != other.crs or not 1 / MOST_RATIO <= ratio <= MOST_RATIO:
        return None
    left, top = ~mine @ (theirs.c, theirs.f)
    right, bottom = ~mine @ (theirs @ (other.width, other.height))
    tolerance = 1e-6
    column, row = (max(0, math.ceil(edge - tolerance)) for edge in (left, top))
    width = min(entry.width, math.floor(right + tolerance)) - column
    height = min(entry.height, math.floor(bottom + tolerance)) - row
    if width <= 0 or height <= 0 or width * height < LEAST_SHARED * entry.width * entry.height:
        return None
    return _Overlap(row, column, height, width)


def _join(optical: Entry, radar: Entry, shared: _Overlap, target: Path) -> Entry:
    """Write the VRT of both, and describe it."""
    transform = Affine(*optical.transform) @ Affine.translation(shared.column, shared.row)
    nodata = optical.nodata if optical.nodata is not None else radar.nodata
    bands = [(entry, band) for entry in (optical, radar) for band in entry.bands]
    names = _different([band.name for _, band in bands])
    root = ET.Element("VRTDataset", rasterXSize=str(shared.width), rasterYSize=str(shared.height))
    grid = entry_grid(optical)
    if grid.crs:
        ET.SubElement(root, "SRS", dataAxisToSRSAxisMapping="1,2").text = grid.crs.to_wkt()
    ET.SubElement(root, "GeoTransform").text = ", ".join(f"{value:.17g}" for value in transform.to_gdal())
    path = _path(optical, target)
    for number, ((entry, band), name) in enumerate(zip(bands, names, strict=True), 1):
        _add_band(root, number, name, entry, band, transform, shared, nodata, path.parent)
    write_tree(root, path)
    joined = tuple(
        Band(number=number, name=name, wavelength_nm=band.wavelength_nm)
        for number, ((_, band), name) in enumerate(zip(bands, names, strict=True), 1)
    )
    apart = round(_days_between(optical, radar) or 0)
    note = f"Optical and radar ('{short_name(radar.path)}', {apart} day{'s' if apart != 1 else ''} apart) as one."
    cut = Grid(grid.crs, transform, shared.height, shared.width)
    return optical.model_copy(
        update={
            "path": str(path), "sensor": " and ".join(part for part in (optical.sensor, radar.sensor) if part),
            "bands": joined, "nodata": nodata, "scale": 1.0, "offset": 0.0, "decibel": radar.decibel,
            "transform": tuple(transform)[:6], "height": shared.height, "width": shared.width, "dtype": "float32",
            "footprint": footprint(cut) if grid.crs else None, "note": " ".join(filter(None, [optical.note, note])),
        }
    )  # fmt: skip


def _different(names: Sequence[str]) -> list[str]:
    return [f"{name} ({index})" if names.index(name) != index else name for index, name in enumerate(names)]


def _path(optical: Entry, target: Path) -> Path:
    """Choose the VRT's name; rasters of one name in different folders get different ones, at every time the same."""
    mark = f"{zlib.crc32(optical.path.encode()):08x}"
    parts: Iterator[str] = (part for part in (optical.place, Path(optical.path).stem, mark) if part)
    folder = target.resolve().with_name(f"{target.name.removesuffix(SUFFIX)}.bands")
    return folder / f"{'_'.join(parts)}_with_radar.vrt"


def _add_band(
    root: ET.Element,
    number: int,
    name: str,
    entry: Entry,
    band: Band,
    transform: Affine,
    shared: _Overlap,
    nodata: float | None,
    folder: Path,
) -> None:
    element = ET.SubElement(root, "VRTRasterBand", dataType="Float32", band=str(number))
    ET.SubElement(element, "Description").text = name
    if nodata is not None:
        ET.SubElement(element, "NoDataValue").text = f"{nodata:.17g}"
    own = Affine(*entry.transform)
    left, top = ~own @ (transform.c, transform.f)
    right, bottom = ~own @ (transform @ (shared.width, shared.height))
    aligned = all(abs(edge - round(edge)) < 1e-3 for edge in (left, top, right, bottom)) and own.a == transform.a
    if aligned:
        left, top, right, bottom = (float(round(edge)) for edge in (left, top, right, bottom))
    source = ET.SubElement(element, "ComplexSource", {} if aligned else {"resampling": "bilinear"})
    add_filename(source, entry.path, folder)
    ET.SubElement(source, "SourceBand").text = str(band.number)
    add_window(source, "SrcRect", left, top, right - left, bottom - top)
    add_window(source, "DstRect", 0, 0, shared.width, shared.height)
    if (entry.scale, entry.offset) != (1.0, 0.0):
        ET.SubElement(source, "ScaleOffset").text = f"{entry.offset:.17g}"
        ET.SubElement(source, "ScaleRatio").text = f"{entry.scale:.17g}"
    if entry.nodata is not None:
        ET.SubElement(source, "NODATA").text = f"{entry.nodata:.17g}"
