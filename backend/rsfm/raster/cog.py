"""Makes a cloud-optimised GeoTIFF of a block file: a pyramid while the file grows, then all blocks, as they are.

Nothing is encoded twice. All blocks are read once when they are put together, which proves that they are what was
written; rows of an earlier start are decoded for the pyramid, which proves the same of them.
"""

import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray

from rsfm.raster import tiff
from rsfm.raster.block_file import BlockFile
from rsfm.raster.grid import Grid
from rsfm.raster.overviews import halve

COPY_BYTES = 2**24
Check = Callable[[], None]


class Written(NamedTuple):
    """Some rows as they were handed over."""

    row: int
    height: int
    checksum: int


class Pyramid:
    """The pyramid of a block file, made while the file grows.

    Its levels are files beside it, until `close`.
    """

    def __init__(self, source: BlockFile) -> None:
        """Plan the levels; their files are made with the first rows."""
        self._source, self._followed, self._unread = source, 0, 0
        self._places = _places_of_levels(source)
        self.levels: list[BlockFile] = []
        self._waiting: list[NDArray[Any] | None] = [None] * len(self._places)
        self._done = [0] * len(self._places)

    def take(self, rows_CHW: NDArray[Any], rows: Sequence[Written], most: int) -> None:
        """Take the last of the rows, which were written just now; after an earlier start, what lies above goes first.

        Args:
            rows: all rows of the source, from the top, as they were written.
            most: how many of them are taken.

        Raises:
            OSError: the disk is full, or rows do not read back as they were written.
        """
        if self._source.digest is None or self._followed < len(rows) - 1:
            return self.follow(rows, most)
        self._make_levels()
        self._add(0, rows_CHW)
        self._followed = self._unread = len(rows)
        return None

    def follow(self, rows: Sequence[Written], most: int, check: Check = lambda: None) -> None:
        """Take some of the rows that were not taken yet, from the file.

        Args:
            check: is called often, and may raise to end the work.
        """
        new = rows[self._followed : self._followed + most]
        self._make_levels()
        for rows_CHW in self._read_back(new, check):
            self._add(0, rows_CHW)
            self._followed += 1

    def prove(self, rows: Sequence[Written], check: Check) -> None:
        """Read what was taken unread, if the checksum of the file's bytes will not prove it.

        Raises:
            OSError: rows do not read back as they were written.
        """
        if self._source.digest is None:
            for _ in self._read_back(rows[: self._unread], check):
                pass

    def _read_back(self, rows: Sequence[Written], check: Check) -> Iterator[NDArray[Any]]:
        if not rows:
            return
        self._source.flush()
        with rasterio.open(self._source.path) as dataset:
            for row, height, expected in rows:
                check()
                rows_CHW = dataset.read(window=((row, row + height), (0, self._source.grid.width)))
                if checksum(rows_CHW) != expected:
                    raise OSError(f"rows {row} to {row + height} do not read back as they were written")
                yield rows_CHW

    def _make_levels(self) -> None:
        source = self._source
        for path, grid in self._places[len(self.levels) :]:
            self.levels.append(BlockFile(path, source.kind, grid, source.bands, block=source.block))

    def finish(self) -> None:
        """Write what does not fill a row of blocks."""
        for level in range(len(self.levels)):
            rest = self._waiting[level]
            if rest is not None and rest.shape[1]:
                self._put(level, rest)

    def close(self) -> None:
        """Remove the levels."""
        for level in self.levels:
            with suppress(OSError):
                level.close()
        for path, _ in self._places:
            path.unlink(missing_ok=True)

    def _add(self, level: int, rows_CHW: NDArray[Any]) -> None:
        """Take rows of the level below, an even number of them unless they are the last."""
        if level == len(self.levels):
            return
        file, waiting = self.levels[level], self._waiting[level]
        halved_CHW = halve(rows_CHW, file.kind)
        ready_CHW = halved_CHW if waiting is None else np.concatenate([waiting, halved_CHW], axis=1)
        while ready_CHW.shape[1] >= file.block:
            self._put(level, ready_CHW[:, : file.block])
            ready_CHW = ready_CHW[:, file.block :]
        self._waiting[level] = ready_CHW

    def _put(self, level: int, rows_CHW: NDArray[Any]) -> None:
        self.levels[level].append(self._done[level], rows_CHW)
        self._done[level] += 1
        self._add(level + 1, rows_CHW)


def make_cog(source: BlockFile, rows: Sequence[Written], pyramid: Pyramid, target: Path, check: Check) -> None:
    """Write the file.

    Args:
        rows: all rows of the source.
        check: is called often, and may raise to end the work.

    Raises:
        OSError: the disk is full, or rows do not read back as they were written.
    """
    pyramid.follow(rows, len(rows), check)
    pyramid.prove(rows, check)
    pyramid.finish()
    _assemble([source, *pyramid.levels], target, check)


def checksum(rows_CHW: NDArray[Any]) -> int:
    return zlib.crc32(np.ascontiguousarray(rows_CHW).data)


def _places_of_levels(source: BlockFile) -> list[tuple[Path, Grid]]:
    """Return file and grid of each level: halves, until one block holds the whole."""
    places: list[tuple[Path, Grid]] = []
    grid = source.grid
    while max(grid.height, grid.width) > source.block:
        grid = Grid(grid.crs, grid.transform @ Affine.scale(2), -(-grid.height // 2), -(-grid.width // 2))
        places.append((source.path.with_name(f"{source.path.stem}-{len(places) + 1}{source.path.suffix}"), grid))
    return places


def _assemble(files: Sequence[BlockFile], target: Path, check: Check) -> None:
    """Put head and blocks into one file: directories from the largest to the smallest, blocks the other way round."""
    size = sum(file.end for file in files)
    big = size > tiff.CLASSIC_LIMIT
    empty = [(np.zeros_like(offsets), sizes) for offsets, sizes in (file.tables for file in files)]
    start = len(_make_head(files, empty, big))
    tables = [file.tables for file in files]
    for index in reversed(range(len(files))):
        file, (offsets, sizes) = files[index], tables[index]
        moved = np.where(offsets > 0, offsets - np.uint64(file.data_start) + np.uint64(start), 0)
        tables[index] = (moved, sizes)
        start += file.end - file.data_start
    with open(target, "wb") as out:
        out.write(_make_head(files, tables, big))
        for file in reversed(files):
            _copy_blocks(file, out, check)
        out.flush()
        os.fsync(out.fileno())


def _make_head(
    files: Sequence[BlockFile], tables: Sequence[tuple[NDArray[np.uint64], NDArray[np.uint64]]], big: bool
) -> bytes:
    directories = []
    for index, (file, (offsets, sizes)) in enumerate(zip(files, tables, strict=True)):
        tags = dict(file.tags)
        if index:
            tags = {number: tag for number, tag in tags.items() if number not in tiff.GEO_AND_METADATA}
            tags[tiff.SUBFILE] = tiff.long_tag(1)
            if tiff.COLOURS in files[0].tags:
                tags |= {number: files[0].tags[number] for number in (tiff.COLOURS, tiff.PHOTOMETRIC)}
        tags[tiff.TILE_OFFSETS], tags[tiff.TILE_SIZES] = tiff.table_tag(offsets, big), tiff.table_tag(sizes, big)
        directories.append(tags)
    return tiff.make_head(directories, big, tiff.COG_LAYOUT).data


def _copy_blocks(file: BlockFile, out: Any, check: Check) -> None:
    file.sync()
    with open(file.path, "rb") as blocks:
        blocks.seek(file.data_start)
        left, digest = file.end - file.data_start, 0
        while left:
            check()
            data = blocks.read(min(left, COPY_BYTES))
            if not data:
                raise OSError(f"'{file.path.name}' is shorter than it was")
            out.write(data)
            left, digest = left - len(data), zlib.crc32(data, digest)
        if file.digest not in (None, digest):
            raise OSError(f"'{file.path.name}' does not read back as it was written")
