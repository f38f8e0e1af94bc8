"""Writes a raster that fits the memory: whole, or not at all.

GDAL keeps silent when a disk fills up while it closes a file. So GDAL writes into memory, and Python onto the disk.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rasterio.io import MemoryFile

from rsfm.whole_file import write_whole


@contextmanager
def small_raster(path: Path, **form: Any) -> Iterator[Any]:
    """Give a GeoTIFF to write to; on a clean exit it stands at its path, else what stood there stays.

    Args:
        form: as for `rasterio.open`.

    Raises:
        OSError: the disk is full or gone.
    """
    with MemoryFile() as memory:
        with memory.open(**{"driver": "GTiff", **form}) as file:
            yield file
        write_whole(path, memory.read(), sync=True)
