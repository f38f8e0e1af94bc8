"""A GeoTIFF that grows by whole rows of blocks and can be read at any moment: what is missing reads as nodata.

GDAL encodes each row of blocks as a small file in memory; where no predictor is used, as in maps of classes, zlib-ng
does, several times as fast and as small. The blocks are appended here, then entered in the tables of the head, which
have their full size from the start. Nothing is written twice, so a file that lost its process holds all rows that were
entered; `cut` takes it back to one of them.
"""

import os
import struct
import warnings
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import MemoryFile

from rsfm.output import RasterKind
from rsfm.raster import tiff
from rsfm.raster.grid import Grid

LARGEST_BLOCK, SMALLEST_BLOCK = 512, 16
BLOCK_BYTES, ROW_OF_BLOCKS_BYTES = 2**23, 2**28
"""Blocks are smaller where one of them, or a row of them, would be larger."""


LEVEL, PLAIN_LEVEL = 1, 2
"""Of DEFLATE, by GDAL and by zlib-ng: higher ones take several times as long and save little."""
LEADER, TRAILER = 4, 4
"""Bytes before and after each block, its size and its last bytes again, as GDAL's cloud-optimised layout has them."""


class Look(NamedTuple):
    """What a file says beside its pixels: names of bands, value -> colour, tags, scale and offset of each band."""

    band_names: Sequence[str] = ()
    colours: Mapping[int, tuple[int, int, int]] = {}
    metadata: Mapping[str, str] = {}
    scaling: Sequence[tuple[float, float]] = ()


class BlockFile:
    """Rows of blocks on disk.

    Attributes:
        block: side of the blocks.
        end: bytes of the file.
        digest: checksum of all after the head; None when some of it was not written by this object.
        data_start: where the head ends.
        tags: of its directory.
    """

    def __init__(
        self,
        path: Path,
        kind: type[RasterKind],
        grid: Grid,
        bands: int,
        look: Look | None = None,
        block: int | None = None,
        go_on: bool = False,
    ) -> None:
        """Make the file, or open the one that is there to go on with it.

        Args:
            block: side of the blocks; None chooses it.
        """
        self.path, self.kind, self.grid, self.bands = path, kind, grid, bands
        self.block = block or choose_block(kind, grid, bands)
        self._across, self._down = -(-grid.width // self.block), -(-grid.height // self.block)
        empty = np.zeros(self._down * self._across, np.uint64)
        self.tags = {
            **_template(kind, grid, bands, self.block, look or Look()),
            tiff.WIDTH: tiff.long_tag(grid.width),
            tiff.HEIGHT: tiff.long_tag(grid.height),
            tiff.TILE_OFFSETS: tiff.table_tag(empty, big=True),
            tiff.TILE_SIZES: tiff.table_tag(empty, big=True),
        }
        head = tiff.make_head([self.tags], big=True)
        self._positions, self.data_start = head.positions[0], len(head.data)
        self._file = open(path, "r+b" if go_on else "w+b")  # noqa: SIM115
        if not go_on:
            self._file.write(head.data)
        self.end = self._file.seek(0, os.SEEK_END)
        self.digest: int | None = None if go_on else 0
        self._offsets, self._sizes = (self._read_table(tag) for tag in (tiff.TILE_OFFSETS, tiff.TILE_SIZES))

    def append(self, index: int, rows_CHW: NDArray[Any]) -> None:
        """Write row `index` of blocks: full width, and full height unless it is the last."""
        offsets, sizes = np.zeros(self._across, np.uint64), np.zeros(self._across, np.uint64)
        self._file.seek(self.end)
        for column, data in enumerate(_encode(rows_CHW, self.kind, self.block)):
            if len(data):
                offsets[column], sizes[column] = self.end + LEADER, len(data)
                for piece in (struct.pack("<I", len(data)), data, data[-TRAILER:]):
                    self._file.write(piece)
                    self.digest = None if self.digest is None else zlib.crc32(piece, self.digest)
                self.end += LEADER + len(data) + TRAILER
        self._enter(index, offsets, sizes)

    def flush(self) -> None:
        """Make sure that what was written can be read."""
        self._file.flush()

    def take(self, index: int, other: "BlockFile") -> None:
        """Copy row `index` of blocks from a file of the same raster, as it is."""
        offsets, sizes = other._offsets[index], other._sizes[index]
        there = np.flatnonzero(offsets)
        if len(there):
            first = int(offsets[there[0]]) - LEADER
            count = int(offsets[there[-1]] + sizes[there[-1]]) + TRAILER - first
            other._file.seek(first)
            self._file.seek(self.end)
            self._file.write(other._file.read(count))
            self.digest = None
            offsets = np.where(offsets > 0, offsets + np.uint64(self.end) - np.uint64(first), np.uint64(0))
            self.end += count
        self._enter(index, offsets, sizes)

    def sync(self) -> None:
        """Make sure that what was written is on the disk."""
        self.flush()
        os.fsync(self._file.fileno())

    def cut(self, rows_of_blocks: int, end: int) -> None:
        """Go back to a file of the first rows of blocks, which was `end` bytes long."""
        for index in range(rows_of_blocks, self._down):
            empty = np.zeros(self._across, np.uint64)
            self._enter(index, empty, empty)
        self._file.truncate(end)
        self.end, self.digest = end, None

    def close(self) -> None:
        self._file.close()

    @property
    def tables(self) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        """Offsets and sizes of all blocks, in the order of rows and columns; 0 where there is none."""
        return self._offsets.reshape(-1), self._sizes.reshape(-1)

    def _enter(self, index: int, offsets: NDArray[np.uint64], sizes: NDArray[np.uint64]) -> None:
        """Enter a row of blocks in the tables: sizes first, for a block is there once its offset is."""
        for tag, table, values in (
            (tiff.TILE_SIZES, self._sizes, sizes),
            (tiff.TILE_OFFSETS, self._offsets, offsets),
        ):
            table[index] = values
            self._file.seek(self._positions[tag] + 8 * index * self._across)
            self._file.write(values.astype("<u8").tobytes())

    def _read_table(self, tag: int) -> NDArray[np.uint64]:
        self._file.seek(self._positions[tag])
        data = self._file.read(8 * self._down * self._across)
        return np.frombuffer(data, "<u8").reshape(self._down, self._across).copy()


def choose_block(kind: type[RasterKind], grid: Grid, bands: int) -> int:
    """Return the side of the blocks: a row of them must fit in memory."""
    block, row_bytes = LARGEST_BLOCK, bands * grid.width * np.dtype(kind.dtype).itemsize
    pixel_bytes = bands * np.dtype(kind.dtype).itemsize
    while block > SMALLEST_BLOCK and (
        block * row_bytes > ROW_OF_BLOCKS_BYTES or block * block * pixel_bytes > BLOCK_BYTES
    ):
        block //= 2
    return block


def _encode(rows_CHW: NDArray[Any], kind: type[RasterKind], block: int) -> Sequence[bytes | memoryview]:
    """Encode a row of blocks; one that holds nodata alone is empty."""
    if kind.predictor == 1 and not kind.bits:
        starts = range(0, rows_CHW.shape[2], block)
        return [_encode_plain(rows_CHW[:, :, left : left + block], kind, block) for left in starts]
    with MemoryFile() as memory:
        with _create(memory, kind, rows_CHW.shape, block) as dataset:
            dataset.write(rows_CHW)
        data = memoryview(memory.read())
    tags = tiff.read_directory(data)
    offsets, sizes = tiff.integers(tags[tiff.TILE_OFFSETS]), tiff.integers(tags[tiff.TILE_SIZES])
    return [data[offset : offset + size] for offset, size in zip(offsets.tolist(), sizes.tolist(), strict=True)]


def _encode_plain(part_CHW: NDArray[Any], kind: type[RasterKind], block: int) -> bytes:
    """Encode a block without a predictor; what lies outside the raster is nodata."""
    bands, height, width = part_CHW.shape
    if (part_CHW == kind.nodata).all():
        return b""
    block_HWC = np.empty((block, block, bands), np.dtype(kind.dtype).newbyteorder("<"))
    if (height, width) != (block, block):
        block_HWC[:] = kind.nodata
    block_HWC[:height, :width] = part_CHW.transpose(1, 2, 0)
    return bytes(imagecodecs.zlibng_encode(block_HWC, level=PLAIN_LEVEL))  # type: ignore[arg-type]


def _template(kind: type[RasterKind], grid: Grid, bands: int, block: int, look: Look) -> dict[int, tiff.Tag]:
    """Let GDAL write place, colours and metadata into an empty file, and return its tags."""
    with MemoryFile() as memory:
        place = {"crs": grid.crs, "transform": grid.transform}
        with _create(memory, kind, (bands, block, block), block, **place) as dataset:
            for number, name in enumerate(look.band_names, start=1):
                dataset.set_band_description(number, name)
            if look.colours:
                dataset.write_colormap(1, {value: (*colour, 255) for value, colour in look.colours.items()})
            if scaling := look.scaling or ([(kind.scale, 0.0)] * bands if kind.scale != 1 else ()):
                dataset.scales, dataset.offsets = zip(*scaling, strict=True)
            dataset.update_tags(**look.metadata)
        return tiff.read_directory(memory.read())


def _create(memory: MemoryFile, kind: type[RasterKind], shape: tuple[int, ...], block: int, **place: Any) -> Any:
    bands, height, width = shape
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        return memory.open(
            driver="GTiff",
            count=bands,
            height=height,
            width=width,
            dtype=kind.dtype,
            nodata=kind.nodata,
            tiled=True,
            blockxsize=block,
            blockysize=block,
            compress="deflate",
            zlevel=LEVEL,
            predictor=kind.predictor,
            interleave="pixel",
            photometric="minisblack",
            alpha="no",
            bigtiff="yes",
            endianness="little",
            sparse_ok=True,
            **({"nbits": kind.bits} if kind.bits else {}),
            **place,
        )
