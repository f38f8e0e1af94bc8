"""Remembers the statistics of a collection in a file beside it, until a raster, an area or a setting changes.

A file that is damaged or of another kind counts as empty. Processes that write at once cost each other a measurement,
never a wrong answer.
"""

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import rasterio
from pydantic import ValidationError
from rasterio.errors import RasterioError

from rsfm.params import Config
from rsfm.raster.collection import SUFFIX, Entry
from rsfm.raster.grid import Window
from rsfm.raster.statistics import Statistics

MEASURE = 1
"""Goes up whenever the same pixels would give other numbers."""
KEPT = 16
"""Measurements that the file holds; the oldest gives way."""
FIELDS = {"bands", "nodata", "scale", "offset", "decibel", "masked"}
SIDECARS = ("", ".aux.xml", ".msk", ".ovr")


class Cache(Config):
    """What the file holds: statistics by the key of what they were measured on, the oldest first."""

    format: Literal["rsfm-statistics-1"] = "rsfm-statistics-1"
    measured: dict[str, Statistics] = {}


def cache_path(collection: Path) -> Path:
    """Return where the statistics of a collection are remembered."""
    name = collection.name.removesuffix(SUFFIX)
    return collection.with_name(f"{name}.statistics.json")


def key_of(folder: Path, entries: Sequence[Entry], areas: Sequence[Window], settings: dict[str, Any]) -> str | None:
    """Return a text that changes whenever a file, an area or a setting does.

    Args:
        folder: of the cache; files are named from there, so that it may move together with them.

    Returns:
        None where it cannot be told whether a file has changed, such as one on a server.
    """
    seen: dict[str, Any] = {}
    described = []
    try:
        for entry, area in zip(entries, areas, strict=True):
            paths = [entry.path, entry.mask] if entry.mask and entry.masked else [entry.path]
            described.append(
                (entry.model_dump(include=FIELDS), list(area), [_relative(path, folder) for path in paths])
            )
            for path in paths:
                if path not in seen:
                    seen[path] = _stamps(path)
    except (OSError, RasterioError):
        return None
    files = {_relative(path, folder): stamps for path, stamps in seen.items()}
    told = json.dumps([MEASURE, settings, described, files], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()


def find(path: Path, key: str) -> Statistics | None:
    """Return what was measured for a key; None if nothing was."""
    return _read(path).measured.get(key)


def remember(path: Path, key: str, statistics: Statistics) -> None:
    """Write a measurement, replacing the file as a whole; a folder that cannot be written to stays as it is."""
    others = {other: found for other, found in _read(path).measured.items() if other != key}
    kept = dict(list(others.items())[1 - KEPT :])
    text = Cache(measured={**kept, key: statistics}).model_dump_json(indent=1)
    with contextlib.suppress(OSError):
        handle, partial = tempfile.mkstemp(prefix=f"{path.name}.", suffix=".partial", dir=path.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            os.replace(partial, path)
        except OSError:
            os.unlink(partial)


def _read(path: Path) -> Cache:
    try:
        return Cache.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return Cache()


def _stamps(path: str) -> list[Any]:
    """Return size and time of a raster's files; a VRT's also of the files it is made of."""
    if not path.lower().endswith(".vrt"):
        return [_stamp(path + sidecar) for sidecar in SIDECARS if not sidecar or os.path.exists(path + sidecar)]
    with rasterio.open(path) as dataset:
        return [(Path(file).name, *_stamp(file)) for file in sorted({path, *dataset.files})]


def _stamp(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns


def _relative(path: str, folder: Path) -> str:
    try:
        return os.path.relpath(path, folder).replace(os.sep, "/")
    except ValueError:  # another drive
        return path
