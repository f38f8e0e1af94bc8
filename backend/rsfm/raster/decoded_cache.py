"""Decoded rasters on disk, for those that memory cannot hold and that are read many times.

A file holds the cells of a raster one after the other, row by row, each as bands, rows and columns in the raster's own
type; behind them a byte a pixel that tells what is valid, left out where all are. It is mapped into memory, written
under another name until it is whole, and named after all that the pixels depend on: a changed raster has another one.
"""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rsfm.raster.cell_cache import Cell
from rsfm.raster.cells import Cells
from rsfm.raster.grid import Window
from rsfm.raster.reader import Raster

FORMAT = 1
"""To be raised when the files change, so that old ones are not read."""
SUFFIX, PART = ".cells", ".part"
FREE_SHARE = 0.1
"""Share of the disk that is left free."""
PART_SECONDS = 86_400
"""Age at which a file that was never finished is removed."""
LEAST_GAIN = 0.25
"""Share of the decoding time that must be saved."""
PROBES = 8


class Rates(NamedTuple):
    """Bytes of decoded pixels a second: decoded from the file, and written to the disk, which reads no slower."""

    decode: float
    disk: float


class DecodedCache:
    """Decoded rasters in a folder, which several processes may share. Those used longest ago go first."""

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self.folder, self.limit_bytes = folder, limit_bytes
        self._open: dict[Hashable, _Mapped] = {}

    def cell(self, raster: Raster, cell: Window) -> Cell | None:
        """Return a cell of a raster that was added; None otherwise."""
        found = self._open.get(raster.key)
        return found.cell(cell) if found else None

    def add(self, raster: Raster, threads: int = 2) -> bool:
        """Decode a raster, unless this was done before; False when there is no room, or its files cannot be told.

        Raises:
            UserError: the raster is damaged.
        """
        cells, path = raster.cells(), self._path(raster)
        if cells is None or path is None:
            return False
        if not path.is_file():
            self.folder.mkdir(parents=True, exist_ok=True)
            if not self._make_room(_bytes(raster, with_valid=True)):
                return False
            _write(raster, cells, path, threads)
        os.utime(path)
        self._open[raster.key] = _Mapped(raster, path)
        return True

    def remove(self) -> None:
        """Delete the folder and all in it; nobody may be reading."""
        self._open.clear()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, raster: Raster) -> Path | None:
        """Name the file after the raster's files, with their sizes and times, and after how it is cut."""
        try:
            files = [(path, os.stat(path).st_size, os.stat(path).st_mtime_ns) for path in raster.files()]
        except OSError:
            return None
        known = [FORMAT, files, raster.grid[2:], raster.bands, raster.dtype.str, raster.cells()]
        return self.folder / f"{hashlib.sha256(json.dumps(known).encode()).hexdigest()[:32]}{SUFFIX}"

    def _make_room(self, size: int) -> bool:
        """Remove files until `size` more bytes fit; False when they never will."""
        for path in self.folder.glob(f"*{PART}"):
            with contextlib.suppress(OSError):  # gone already
                if time.time() - path.stat().st_mtime > PART_SECONDS:
                    path.unlink()
        kept = sorted((path.stat().st_mtime, path.stat().st_size, path) for path in self.folder.glob(f"*{SUFFIX}"))
        used = sum(length for _, length, _ in kept)
        usage = shutil.disk_usage(self.folder)
        limit = min(self.limit_bytes, used + usage.free - round(FREE_SHARE * usage.total))
        if size > limit:
            return False
        for _, length, path in kept:
            if used + size <= limit:
                break
            with contextlib.suppress(OSError):  # in use on Windows
                path.unlink()
                used -= length
        return used + size <= limit


def pays(decoded_bytes: int, memory_bytes: int, visits: float, rates: Rates) -> bool:
    """Tell whether decoding to disk first saves time.

    Args:
        decoded_bytes: of all rasters.
        memory_bytes: that are kept anyway.
        visits: how often training reads every pixel.
    """
    if decoded_bytes <= memory_bytes:
        return False
    without = visits / rates.decode
    return (1 / rates.decode + 1 / rates.disk + visits / rates.disk) <= (1 - LEAST_GAIN) * without


def measure(raster: Raster, folder: Path) -> Rates:
    """Decode a few cells of a raster and write them to a folder."""
    cells = raster.cells() or Cells((0, raster.grid.height), (0, raster.grid.width))
    rows = np.linspace(0, len(cells.rows) - 2, PROBES).astype(int).tolist()
    columns = np.linspace(0, len(cells.columns) - 2, PROBES).astype(int).tolist()
    started = time.perf_counter()
    found = [raster.read_native(cells.window(*place))[0] for place in dict.fromkeys(zip(rows, columns, strict=True))]
    decoded = time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        for pixels_CHW in found:
            file.write(pixels_CHW.tobytes())
        file.flush()
        os.fsync(file.fileno())
    size = sum(pixels_CHW.nbytes for pixels_CHW in found)
    return Rates(size / max(decoded - started, 1e-9), size / max(time.perf_counter() - decoded, 1e-9))


class _Mapped:
    """The mapped file of a raster."""

    def __init__(self, raster: Raster, path: Path) -> None:
        self.bands, self.width, self.dtype = raster.bands, raster.grid.width, raster.dtype
        pixels = _bytes(raster, with_valid=False)
        self.bytes_N = np.memmap(path, np.uint8, "r")
        self.valid_N = self.bytes_N[pixels:].view(bool) if len(self.bytes_N) > pixels else None
        self.pixels_N = self.bytes_N[:pixels].view(raster.dtype)

    def cell(self, cell: Window) -> Cell:
        first, count = _place(cell, self.width)
        pixels_N = self.pixels_N[self.bands * first : self.bands * (first + count)]
        pixels_CHW = pixels_N.reshape(self.bands, cell.height, cell.width)
        valid_N = None if self.valid_N is None else self.valid_N[first : first + count]
        return Cell(pixels_CHW, None if valid_N is None else valid_N.reshape(cell.height, cell.width))


def _write(raster: Raster, cells: Cells, path: Path, threads: int) -> None:
    """Decode all cells into a file that gets its name when it is whole."""
    handle, name = tempfile.mkstemp(PART, dir=path.parent)
    os.close(handle)
    try:
        if _decode(raster, cells, name, threads):
            os.truncate(name, _bytes(raster, with_valid=False))
        os.replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)


def _decode(raster: Raster, cells: Cells, name: str, threads: int) -> bool:
    """Fill a file; return whether all pixels are valid."""
    size = _bytes(raster, with_valid=False)
    mapped_N = np.memmap(name, np.uint8, "w+", shape=(_bytes(raster, with_valid=True),))
    pixels_N, valid_N = mapped_N[:size].view(raster.dtype), mapped_N[size:].view(bool)

    def decode(cell: Window) -> bool:
        first, count = _place(cell, raster.grid.width)
        pixels_CHW, valid_HW = raster.read_native(cell)
        pixels_N[raster.bands * first : raster.bands * (first + count)] = pixels_CHW.ravel()
        valid_N[first : first + count] = valid_HW.ravel()
        return bool(valid_HW.all())

    with ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(decode, _all(cells)))
    mapped_N.flush()
    return all(found)


def _all(cells: Cells) -> Sequence[Window]:
    rows, columns = range(len(cells.rows) - 1), range(len(cells.columns) - 1)
    return [cells.window(row, column) for row in rows for column in columns]


def _place(cell: Window, width: int) -> tuple[int, int]:
    """Return how many pixels of a raster that is `width` px wide lie before a cell, and how many in it."""
    return cell.row * width + cell.height * cell.column, cell.height * cell.width


def room_for(raster: Raster) -> int:
    """Return the bytes that a raster takes at most, with a byte a pixel for what is valid."""
    return _bytes(raster, with_valid=True)


def _bytes(raster: Raster, with_valid: bool) -> int:
    return raster.grid.height * raster.grid.width * (raster.bands * raster.dtype.itemsize + with_valid)
