"""Where the encoded blocks of a TIFF lie and how they are made, as its first directory says.

Classic and BigTIFF of both byte orders. What is unusual has no layout: such a file is GDAL's affair.
"""

import os
import struct
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rsfm.raster.tiff import HEIGHT, PHOTOMETRIC, SIZES, SUBFILE, TILE_OFFSETS, TILE_SIZES, WIDTH

BITS, COMPRESSION, FILL_ORDER, ORIENTATION, BANDS = 258, 259, 266, 274, 277
STRIP_OFFSETS, STRIP_HEIGHT, STRIP_SIZES, PLANES = 273, 278, 279, 284
PREDICTOR, TILE_WIDTH, TILE_HEIGHT, FORMAT = 317, 322, 323, 339
ALONE = {SUBFILE: 0, FILL_ORDER: 1, ORIENTATION: 1}
"""Tags that must have these values, or be absent."""
PLAIN_COLOURS = (0, 1, 2, 3)
"""Grey, RGB and palette: the values are stored as they are."""
KINDS = {1: "u", 2: "i", 3: "f"}
UNSIGNED = {1: "u1", 3: "u2", 4: "u4", 16: "u8"}
MOST_TAGS = 4096
MOST_BLOCKS = 2**26


class Stamp(NamedTuple):
    """What tells that a file is still the same."""

    device: int
    inode: int
    size: int
    modified_ns: int

    @classmethod
    def of(cls, file: IO[bytes]) -> "Stamp":
        found = os.fstat(file.fileno())
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


class TiffLayout(NamedTuple):
    """How a file is cut into blocks: P planes of R x C blocks.

    Attributes:
        stamp: of the file when this was read.
        dtype: of the pixels as they are stored, with their byte order.
        bands: in the file; one plane holds all of them, or there is a plane for each.
        block: height and width in pixels.
        tiled: blocks reach over the raster's edge; the last strip of others is shorter.
        compression, predictor: numbers of the TIFF specification.
        offsets_PRC, sizes_PRC: in bytes; 0 where a block was never written.
    """

    stamp: Stamp
    dtype: np.dtype[Any]
    height: int
    width: int
    bands: int
    block: tuple[int, int]
    tiled: bool
    compression: int
    predictor: int
    offsets_PRC: NDArray[np.int64]
    sizes_PRC: NDArray[np.int64]

    @property
    def interleaved(self) -> int:
        """How many bands a block holds."""
        return self.bands // len(self.offsets_PRC)


def read_layout(path: str | Path) -> TiffLayout | None:
    """Read the layout of a file; None when it is no TIFF, or no plain one."""
    try:
        with open(path, "rb") as file:
            order, tags = _read_tags(file)
            return _layout(Stamp.of(file), order, tags)
    except (OSError, ValueError, KeyError, IndexError, TypeError, struct.error, OverflowError):
        return None


def _layout(stamp: Stamp, order: str, tags: dict[int, NDArray[np.int64]]) -> TiffLayout | None:
    def one(tag: int, default: int | None = None) -> int:
        if tag not in tags and default is not None:
            return default
        return int(tags[tag][0])

    bands, bits, formats = one(BANDS, 1), set(tags[BITS].tolist()), set(tags.get(FORMAT, np.ones(1, int)).tolist())
    usual = all(one(tag, value) == value for tag, value in ALONE.items()) and one(PHOTOMETRIC) in PLAIN_COLOURS
    if not usual or len(bits) != 1 or len(formats) != 1 or one(PLANES, 1) not in (1, 2):
        return None
    (depth,), (form,) = bits, formats
    dtype = np.dtype(f"{order}{KINDS[form]}{depth // 8}")
    if depth != 8 * dtype.itemsize:
        return None
    height, width, tiled = one(HEIGHT), one(WIDTH), TILE_OFFSETS in tags
    block = (one(TILE_HEIGHT), one(TILE_WIDTH)) if tiled else (min(one(STRIP_HEIGHT, height), height), width)
    shape = (bands if one(PLANES, 1) == 2 else 1, -(-height // block[0]), -(-width // block[1]))
    places = (TILE_OFFSETS, TILE_SIZES) if tiled else (STRIP_OFFSETS, STRIP_SIZES)
    offsets_PRC, sizes_PRC = (tags[tag].reshape(shape) for tag in places)
    return TiffLayout(
        stamp, dtype, height, width, bands, block, tiled, one(COMPRESSION, 1), one(PREDICTOR, 1), offsets_PRC, sizes_PRC
    )


def _read_tags(file: IO[bytes]) -> tuple[str, dict[int, NDArray[np.int64]]]:
    """Return the byte order and the whole numbers of the first directory."""
    order = {b"II": "<", b"MM": ">"}[file.read(2)]
    (version,) = struct.unpack(f"{order}H", file.read(2))
    big = {42: False, 43: True}[version]
    entry, word = (f"{order}HHQ", f"{order}Q") if big else (f"{order}HHI", f"{order}I")
    inline = 8 if big else 4
    file.seek(8 if big else 4)
    file.seek(*struct.unpack(word, file.read(inline)))
    (count,) = struct.unpack(*((f"{order}Q", file.read(8)) if big else (f"{order}H", file.read(2))))
    if count > MOST_TAGS:
        raise ValueError("This is no directory.")
    step = struct.calcsize(entry) + inline
    table, tags = file.read(step * count), {}
    for index in range(count):
        tag, kind, values = struct.unpack_from(entry, table, index * step)
        if kind not in UNSIGNED or values > MOST_BLOCKS:
            continue
        at, size = (index + 1) * step - inline, SIZES[kind] * values
        data = table[at : at + size]
        if size > inline:
            file.seek(*struct.unpack_from(word, table, at))
            data = file.read(size)
        tags[tag] = np.frombuffer(data, order + UNSIGNED[kind], values).astype(np.int64)
    return order, tags
