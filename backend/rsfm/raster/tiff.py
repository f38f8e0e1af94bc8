"""The few parts of TIFF 6.0 and BigTIFF that put encoded blocks of several files into one; GDAL encodes and decodes.

Only little-endian files are read and written: the rest of the world's are GDAL's affair.
"""

import struct
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT, SUBFILE, PHOTOMETRIC, COLOURS = 256, 257, 254, 262, 320
TILE_OFFSETS, TILE_SIZES = 324, 325
GEO_AND_METADATA = (33550, 33922, 34264, 34735, 34736, 34737, 42112)
"""Place and text, which overviews do not repeat."""
LONG, LONG8 = 4, 16
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
"""Bytes of a value, by type."""
INTEGERS = {3: "<u2", 4: "<u4", 16: "<u8"}
CLASSIC_LIMIT = 2**32 - 2**20
"""A larger file must be a BigTIFF."""
ALIGNMENT = 16
COG_LAYOUT = (
    b"LAYOUT=IFDS_BEFORE_DATA\nBLOCK_ORDER=ROW_MAJOR\nBLOCK_LEADER=SIZE_AS_UINT4\n"
    b"BLOCK_TRAILER=LAST_4_BYTES_REPEATED\nKNOWN_INCOMPATIBLE_EDITION=NO\n "
)
"""What GDAL looks for behind the header of a cloud-optimised file; an editor of the file overwrites the last line."""


class Tag(NamedTuple):
    """A value of a directory, as its bytes."""

    type: int
    values: int
    value: bytes


Directory = Mapping[int, Tag]


class Head(NamedTuple):
    """Everything of a file that comes before its blocks.

    Attributes:
        positions: for each directory, where the value of each tag lies.
    """

    data: bytes
    positions: list[dict[int, int]]


def read_directory(data: bytes | memoryview) -> dict[int, Tag]:
    """Read the first directory of a little-endian BigTIFF."""
    mark, version, _, start = struct.unpack_from("<2sHIQ", data)
    if (mark, version) != (b"II", 43):
        raise ValueError("This is no little-endian BigTIFF.")
    (count,) = struct.unpack_from("<Q", data, start)
    tags = {}
    for index in range(count):
        entry = start + 8 + 20 * index
        tag, kind, values = struct.unpack_from("<HHQ", data, entry)
        size = SIZES[kind] * values
        at = entry + 12 if size <= 8 else struct.unpack_from("<Q", data, entry + 12)[0]
        tags[tag] = Tag(kind, values, bytes(data[at : at + size]))
    return tags


def integers(tag: Tag) -> NDArray[np.uint64]:
    """Return the whole numbers of a tag."""
    return np.frombuffer(tag.value, INTEGERS[tag.type]).astype(np.uint64)


def long_tag(value: int) -> Tag:
    return Tag(LONG, 1, struct.pack("<I", value))


def table_tag(values: NDArray[np.uint64], big: bool) -> Tag:
    """Make a tag of offsets or sizes."""
    kind = LONG8 if big else LONG
    return Tag(kind, len(values), values.astype(INTEGERS[kind]).tobytes())


def make_head(directories: Sequence[Directory], big: bool, layout: bytes = b"") -> Head:
    """Lay out header, `layout` as GDAL's structural metadata, and directories, each followed by its values."""
    data = bytearray(16 if big else 8)
    if layout:
        data += b"GDAL_STRUCTURAL_METADATA_SIZE=%06d bytes\n" % len(layout) + layout
    struct.pack_into("<2sHHH" if big else "<2sH", data, 0, *((b"II", 43, 8, 0) if big else (b"II", 42)))
    pointer, positions = 8 if big else 4, []
    for directory in directories:
        _align(data)
        struct.pack_into("<Q" if big else "<I", data, pointer, len(data))
        pointer, found = _append_directory(data, directory, big)
        positions.append(found)
    _align(data)
    return Head(bytes(data), positions)


def _append_directory(data: bytearray, directory: Directory, big: bool) -> tuple[int, dict[int, int]]:
    """Append a directory and its values; return where the next one's place is to be written, and where values lie."""
    counter, entry_size, inline = ("<Q", 20, 8) if big else ("<H", 12, 4)
    start = len(data)
    first = start + struct.calcsize(counter)
    pointer = first + entry_size * len(directory)
    data += bytes(pointer + inline - start)
    struct.pack_into(counter, data, start, len(directory))
    positions = {}
    for index, (number, tag) in enumerate(sorted(directory.items())):
        entry = first + entry_size * index
        struct.pack_into("<HHQ" if big else "<HHI", data, entry, number, tag.type, tag.values)
        at = entry + entry_size - inline
        if len(tag.value) > inline:
            _align(data)
            struct.pack_into("<Q" if big else "<I", data, at, len(data))
            at = len(data)
            data += tag.value
        else:
            data[at : at + len(tag.value)] = tag.value
        positions[number] = at
    return pointer, positions


def _align(data: bytearray) -> None:
    data += bytes(-len(data) % ALIGNMENT)
