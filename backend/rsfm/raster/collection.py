"""A collection: a named list of rasters with what must be known to learn from them, kept as one JSON file.

Opening it opens no raster: sampling and forms work from what is written here.
"""

import json
import os
import re
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from rsfm.errors import UserError
from rsfm.params import Config

SUFFIX = ".collection.json"

Role = Literal["imagery", "mask", "labels", "other"]
DateSource = Literal["table", "metadata", "name", "layer", "none"]


class Band(Config):
    """A band of a file: its number there from 1, the name it is known by, and its centre in nanometres."""

    number: int = Field(ge=1)
    name: str
    wavelength_nm: float | None = None


class Entry(Config):
    """A raster of a collection.

    Attributes:
        path: absolute, or relative to the collection's folder.
        used: False leaves it out without forgetting what was said about it.
        date: ISO 8601 in UTC; None when nothing tells it.
        date_source: where the date comes from; "table" is the user's own word, which nothing overrides.
        hour_known: False when only the day is known and 10 h is assumed.
        month_known: False when only the year is known and June is assumed.
        scale, offset: value = stored * scale + offset, the same for all bands.
        decibel: radar backscatter, already logarithmic.
        gsd: metres a pixel on the ground, at the raster's centre.
        footprint: west, south, east, north in degrees, west above east where it crosses 180°; None without CRS.
        valid: share of valid pixels, of a sample; None if not looked at.
        mask: a raster on any grid whose values in `masked` are cloud or otherwise to be left out.
        place: entries of the same non-empty name show the same place, such as an SSL4EO-S12 sample.
        problem: why it cannot be used, in a sentence; empty if it can.
        note: what was assumed or is odd, in sentences; it does not stop the work.
    """

    path: str
    role: Role = "imagery"
    used: bool = True
    sensor: str = ""
    date: str | None = None
    date_source: DateSource = "none"
    hour_known: bool = False
    month_known: bool = True
    bands: tuple[Band, ...] = ()
    nodata: float | None = None
    scale: float = 1.0
    offset: float = 0.0
    decibel: bool = False
    crs: str = ""
    transform: tuple[float, float, float, float, float, float] = (1.0, 0.0, 0.0, 0.0, -1.0, 0.0)
    height: int = 0
    width: int = 0
    dtype: str = "uint8"
    gsd: float = 0.0
    footprint: tuple[float, float, float, float] | None = None
    valid: float | None = None
    mask: str | None = None
    masked: tuple[int, ...] = ()
    place: str = ""
    problem: str = ""
    note: str = ""


class Collection(Config):
    """Rasters that are learned from together."""

    format: Literal["rsfm-collection-1"] = "rsfm-collection-1"
    name: str
    entries: tuple[Entry, ...] = ()

    @property
    def imagery(self) -> tuple[Entry, ...]:
        """Entries to learn from."""
        return tuple(entry for entry in self.entries if entry.used and entry.role == "imagery" and not entry.problem)


def is_collection(path: str) -> bool:
    return path.endswith(SUFFIX)


def load(path: str, field: str = "rasters") -> Collection:
    """Read a collection, with its paths made absolute.

    Raises:
        UserError: the file is missing or is not a collection.
    """
    file = Path(path)
    try:
        collection = Collection.model_validate_json(file.read_bytes())
    except OSError as error:
        raise UserError(
            f"The collection '{file.name}' cannot be read ({error.strerror}). Choose another one, or make it again on "
            "the page Imagery.",
            field,
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise UserError(
            f"'{file.name}' is not a collection of this version: {where}: {first['msg']}. Make it again on the page "
            "Imagery.",
            field,
        ) from error
    folder = file.resolve().parent
    entries = (
        entry.model_copy(update={"path": _at(folder, entry.path), "mask": entry.mask and _at(folder, entry.mask)})
        for entry in collection.entries
    )
    return collection.model_copy(update={"entries": tuple(entries)})


def save(path: Path, collection: Collection) -> None:
    """Write a collection, replacing the file as a whole; rasters below its folder are named from there, so that both
    can be moved together.
    """
    folder = path.resolve().parent
    entries = [
        {**entry.model_dump(), "path": _from(folder, entry.path), "mask": entry.mask and _from(folder, entry.mask)}
        for entry in collection.entries
    ]
    partial = path.with_name(f"{path.name}.partial")
    text = json.dumps({**collection.model_dump(exclude={"entries"}), "entries": entries}, indent=1, allow_nan=False)
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def _from(folder: Path, path: str) -> str:
    return Path(path).relative_to(folder).as_posix() if Path(path).is_relative_to(folder) else path


def _at(folder: Path, path: str) -> str:
    """Return a path as seen from anywhere; what GDAL knows by another name than a file's, as NETCDF:"a.nc":b, stays."""
    return path if Path(path).is_absolute() or re.match(r"\w{2,}:", path) else str(folder / path)
