"""Entries of a collection, with their files."""

from collections.abc import Callable
from typing import Any

import pytest
from rsfm.raster.collection import Entry
from rsfm.raster.plain_entry import plain_entry
from rsfm.raster.reader import open_raster


@pytest.fixture
def make_entry(make_raster: Callable[..., Any]) -> Callable[..., Entry]:
    """Write pixels_CHW as a raster and return its entry, with changes; `profile` goes to the file."""

    def make(pixels_CHW: Any, name: str = "a.tif", profile: dict[str, Any] | None = None, **changes: Any) -> Entry:
        path = make_raster(pixels_CHW, name, **(profile or {}))
        with open_raster(str(path), "rasters") as raster:
            return plain_entry(raster).model_copy(update=changes)

    return make
