"""Makes an entry of a collection from a file: what must be known of it, and why it cannot be used where it cannot."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rasterio.errors import RasterioError

from rsfm.errors import UserError
from rsfm.raster.acquisition import Dated, date_raster, parse_tag
from rsfm.raster.band_names import Described, Named, describe_bands, name_bands
from rsfm.raster.collection import Band, Entry
from rsfm.raster.footprint import footprint
from rsfm.raster.grid import Grid
from rsfm.raster.known_sensors import PLATFORM_TAGS, RADAR
from rsfm.raster.probe import Look, look
from rsfm.raster.reader import find_problem, open_dataset, short_name
from rsfm.raster.reflectance_offset import find_offset
from rsfm.raster.roles import find_masked, find_role
from rsfm.raster.validity import find_alpha

FOLDERS_READ = 3


class Told(NamedTuple):
    """What somebody other than the file says of it, such as a STAC item; empty or None where nothing is said.

    Attributes:
        name: what the raster is known by, where its file is called otherwise.
        bands: in the file's order.
        tags: metadata of the raster's sources.
    """

    name: str = ""
    date: str = ""
    bands: tuple[Band, ...] = ()
    sensor: str = ""
    nodata: float | None = None
    scale: float | None = None
    offset: float | None = None
    place: str = ""
    tags: Mapping[str, str] = {}


NOTHING_TOLD = Told()


def describe_raster(path: str, told: Told = NOTHING_TOLD) -> Entry:
    """Describe a file; never raises for a bad one, but says what is wrong with it."""
    try:
        with open_dataset(path, "rasters") as dataset:
            return _describe(path, dataset, told)
    except UserError as error:
        return Entry(path=path, place=told.place, problem=str(error))
    except (RasterioError, OSError, ValueError) as error:
        problem = f"'{short_name(path)}' cannot be described ({error}). Copy or convert it again, or leave it out."
        return Entry(path=path, place=told.place, problem=problem)


def _describe(path: str, dataset: Any, told: Told) -> Entry:
    name = told.name or path
    problem, readable = find_problem(dataset), not find_problem(dataset, require_crs=False)
    alpha = find_alpha(dataset) if readable else None
    numbers = [number for number in dataset.indexes if number != alpha]
    tags = {**read_tags(dataset), **told.tags}
    described = describe_bands(dataset, numbers)
    grid = Grid(dataset.crs or None, dataset.transform, dataset.height, dataset.width)
    facts = {
        "nodata": _finite(told.nodata if told.nodata is not None else _nodata(dataset, numbers)),
        "crs": _crs_text(dataset.crs),
        "transform": tuple(dataset.transform)[:6],
        "height": dataset.height,
        "width": dataset.width,
        "dtype": str(np.result_type(*(dataset.dtypes[number - 1] for number in numbers))) if readable else "uint8",
        "gsd": 0.0 if problem else round(grid.gsd, 6),
        "footprint": None if problem else _footprint(grid),
        "place": told.place,
    }
    scales = {(dataset.scales[number - 1], dataset.offsets[number - 1]) for number in numbers}
    seen = look(path, dataset) if readable else Look()  # last: GDAL may tell its errors to the next who asks
    refused = f"'{short_name(path)}' {problem}" if problem else seen.problem
    meaning = _interpret(name, described, tags, told, scales, seen, facts)
    return Entry(path=path, valid=seen.valid, problem=refused, **facts, **meaning)


def _interpret(
    name: str,
    described: Sequence[Described],
    tags: Mapping[str, str],
    told: Told,
    scales: set[tuple[float, float]],
    seen: Look,
    facts: Mapping[str, Any],
) -> dict[str, Any]:
    """Say what the pixels mean: role, sensor, date, bands and scaling."""
    named = _name(name, described, tags, told)
    dated = _date(name, tags, told, frozenset({facts["height"], facts["width"]}))
    palette = any(band.colour == "palette" for band in described)
    whole = np.dtype(facts["dtype"]).kind in "iu"
    role = find_role(short_name(name), tuple(band.description for band in described), palette, whole, seen.values)
    scale, offset, scale_note = _scale(scales, told)
    if (scale, offset, scale_note) == (1.0, 0.0, "") and told.offset is None:
        offset, scale_note = find_offset(name, tags, named.sensor, dated.acquisition, facts["dtype"], seen.floor)
    notes = [dated.note, scale_note] if role == "imagery" else []
    return {
        "role": role,
        "sensor": named.sensor if role == "imagery" else "",
        **_date_fields(dated),
        "bands": named.bands,
        "scale": scale,
        "offset": offset if role == "imagery" else 0.0,
        "decibel": _is_decibel(name, described, named, tags, seen),
        "masked": find_masked(short_name(name), seen.values) if role == "mask" else (),
        "note": " ".join(note for note in [*notes, _odd(seen)] if note),
    }


def read_tags(dataset: Any) -> dict[str, str]:
    """Return the metadata of an open file, that of the imagery domain first."""
    found = {**dataset.tags(), **dataset.tags(ns="IMAGERY")}
    return {name: str(value) for name, value in found.items()}


def hints(name: str, tags: Mapping[str, str]) -> list[str]:
    """Return what may name the sensor: the file's name, its metadata, its folders."""
    told = " ".join(value for tag, value in tags.items() if tag.upper() in PLATFORM_TAGS)
    path = Path(name)
    return [path.name, told, *(folder.name for folder in list(path.parents)[:FOLDERS_READ])]


def _name(name: str, described: Sequence[Described], tags: Mapping[str, str], told: Told) -> Named:
    named = name_bands(described, [told.sensor, *hints(name, tags)] if told.sensor else hints(name, tags))
    if len(told.bands) != len(named.bands):
        return named
    pairs = zip(told.bands, named.bands, strict=True)
    bands = tuple(band.model_copy(update={"number": own.number}) for band, own in pairs)
    return Named(named.sensor, bands)


def _date(name: str, tags: Mapping[str, str], told: Told, sizes: frozenset[int]) -> Dated:
    stated = parse_tag(told.date) if told.date else None
    return Dated(stated, "metadata") if stated is not None else date_raster(tags, name, sizes)


def _date_fields(dated: Dated) -> dict[str, Any]:
    found = dated.acquisition
    if found is None:
        return {}
    known = {"hour_known": found.precision == "hour", "month_known": found.precision != "year"}
    return {"date": found.iso, "date_source": dated.source, **known}


def _scale(declared: set[tuple[float, float]], told: Told) -> tuple[float, float, str]:
    """Return scale, offset and what is to be said about them.

    Args:
        declared: the pairs of all bands.
    """
    if told.scale is not None or told.offset is not None:
        return told.scale if told.scale is not None else 1.0, told.offset or 0.0, ""
    if len(declared) > 1:
        return 1.0, 0.0, "Its bands declare different scales and offsets: values are used as stored."
    scale, offset = next(iter(declared), (1.0, 0.0))
    if not (math.isfinite(scale) and math.isfinite(offset) and scale != 0):
        return 1.0, 0.0, "The scale it declares is no number: values are used as stored."
    return float(scale), float(offset), ""


def _is_decibel(name: str, described: Sequence[Described], named: Named, tags: Mapping[str, str], seen: Look) -> bool:
    """Tell whether radar backscatter is logarithmic: it says so, or most of it lies below zero."""
    if named.sensor != "Sentinel-1" and not any(band.name in RADAR for band in named.bands):
        return False
    units = " ".join(value for tag, value in tags.items() if "UNIT" in tag.upper())
    words = f"{Path(name).stem} {units} {' '.join(band.description for band in described)}".lower()
    if any(word in {"db", "decibel", "decibels"} for word in words.replace("_", " ").replace("-", " ").split()):
        return True
    return seen.low < 0 and abs(seen.low) > abs(seen.high) * 0.5


def _nodata(dataset: Any, numbers: Sequence[int]) -> float | None:
    value: float | None = dataset.nodatavals[numbers[0] - 1] if numbers else None
    return value


def _finite(value: float | None) -> float | None:
    """NaN and infinity are invalid without being named."""
    return float(value) if value is not None and math.isfinite(value) else None


def _crs_text(crs: Any) -> str:
    if not crs:
        return ""
    code = crs.to_authority()
    return ":".join(code) if code else str(crs.to_wkt())


def _footprint(grid: Grid) -> tuple[float, float, float, float] | None:
    try:
        found = footprint(grid)
    except RasterioError:
        return None
    rounded = tuple(round(value, 7) for value in found)
    return rounded if all(math.isfinite(value) for value in found) else None  # type: ignore[return-value]


def _odd(seen: Look) -> str:
    if seen.valid == 0 and not seen.problem:
        return "No valid pixel was found in nine places: see whether it is all nodata."
    return "Less than a tenth of it is valid." if seen.valid is not None and 0 < seen.valid < 0.1 else ""
