"""Decodes whole blocks of TIFFs with a predictor, faster than GDAL and only the bands wanted; GDAL does the rest.

Shape letters: H rows, W columns, S bands of a block.
"""

import threading
from collections.abc import Callable, Sequence
from typing import IO, Any

import imagecodecs
import numpy as np

from rsfm.raster.grid import Window
from rsfm.raster.tiff_layout import Stamp, TiffLayout, read_layout

DECODERS: dict[int, Callable[..., Any]] = {
    8: imagecodecs.deflate_decode,
    32946: imagecodecs.deflate_decode,
    50000: imagecodecs.zstd_decode,
}
"""By number of the compression; GDAL is as fast with others, or faster."""
DIFFERENCES, FLOATS = 2, 3
"""Predictors: each pixel less its neighbour on the left, the same for the bytes of floats put in order. What has none
GDAL decodes as fast, and in maps with a tenth less of the processor's time."""
LARGEST_SPAN = 2
"""Blocks are fetched at once when what lies between them is not more than they are."""

_local = threading.local()


class TiffBlocks:
    """The blocks of a file, which several threads may decode at once. No file is kept open."""

    def __init__(self, path: str, layout: TiffLayout) -> None:
        self.path, self.layout = path, layout

    @classmethod
    def find(cls, path: str) -> "TiffBlocks | None":
        """Return the blocks of a file that can be decoded here, else None."""
        layout = read_layout(path)
        if layout is None or layout.compression not in DECODERS:
            return None
        known = (DIFFERENCES, FLOATS) if layout.dtype.kind == "f" else (DIFFERENCES,)
        return cls(path, layout) if layout.predictor in known else None

    def read(self, window: Window, numbers: Sequence[int], bands: Sequence[np.ndarray]) -> bool:
        """Fill arrays of H x W pixels with the bands of these numbers, from 1.

        Returns:
            False when the window is not made of whole blocks, when a block was never written or is damaged, or when
            the file has changed: what the arrays hold then is of no use.
        """
        layout = self.layout
        if not self._whole(window) or any(band_HW.dtype != layout.dtype.newbyteorder("=") for band_HW in bands):
            return False
        height, width = layout.block
        rows = range(window.row // height, -(-(window.row + window.height) // height))
        together = layout.interleaved
        try:
            with open(self.path, "rb", buffering=0) as file:
                if Stamp.of(file) != layout.stamp:
                    return False
                for plane in sorted({(number - 1) // together for number in numbers}):
                    wanted = [
                        ((number - 1) % together, band_HW)
                        for number, band_HW in zip(numbers, bands, strict=True)
                        if (number - 1) // together == plane
                    ]
                    for left in range(0, window.width, width):
                        stored_HWS = self._decode(file, plane, rows, (window.column + left) // width)
                        columns = slice(left, min(left + width, window.width))
                        for index, band_HW in wanted:
                            self._undo(stored_HWS[..., index], band_HW[:, columns])
        except (OSError, RuntimeError, ValueError, MemoryError):
            return False
        return True

    def _whole(self, window: Window) -> bool:
        """Tell whether a window lies inside the raster and ends at the edges of blocks, or of the raster."""
        layout = self.layout
        spans = (
            (window.row, window.row + window.height, layout.block[0], layout.height),
            (window.column, window.column + window.width, layout.block[1], layout.width),
        )
        return all(
            0 <= start < end <= whole and start % side == 0 and (end % side == 0 or end == whole)
            for start, end, side, whole in spans
        )

    def _decode(self, file: IO[bytes], plane: int, rows: range, column: int) -> np.ndarray:
        """Return blocks that lie below each other, in memory that this thread uses again and again.

        Raises:
            OSError, RuntimeError, ValueError: one was never written, or is damaged.
        """
        layout, decode = self.layout, DECODERS[self.layout.compression]
        places_R, sizes_R = (table[plane, rows, column] for table in (layout.offsets_PRC, layout.sizes_PRC))
        pieces = _fetch(file, places_R, sizes_R, layout.stamp.size)
        height = layout.block[0] * len(rows)
        if not layout.tiled:
            height = min(height, layout.height - layout.block[0] * rows.start)
        shape = height, layout.block[1], layout.interleaved
        line = shape[1] * shape[2] * layout.dtype.itemsize
        memory, start = _scratch("decoded", height * line), 0
        for piece in pieces:
            room = memory[start : start + min(layout.block[0] * line, len(memory) - start)]
            if len(decode(piece, out=room)) != len(room):
                raise ValueError("A block has another size than its pixels.")
            start += len(room)
        if layout.predictor != FLOATS:
            return memory.view(layout.dtype).reshape(shape)
        native = layout.dtype.newbyteorder("=")
        floats_HWS = _scratch("floats", len(memory)).view(native).reshape(shape)
        imagecodecs.floatpred_decode(memory.view(native).reshape(shape), axis=1, out=floats_HWS)
        return floats_HWS

    def _undo(self, stored_HW: np.ndarray, band_HW: np.ndarray) -> None:
        """Undo the predictor, and fill a band."""
        part_HW = stored_HW[: band_HW.shape[0], : band_HW.shape[1]]
        if self.layout.predictor == FLOATS:
            band_HW[:] = part_HW
            return
        unsigned = np.dtype(f"u{band_HW.dtype.itemsize}")
        native_HW = part_HW.astype(band_HW.dtype, copy=False).view(unsigned)
        imagecodecs.delta_decode(native_HW, axis=1, out=band_HW.view(unsigned))


def _fetch(file: IO[bytes], offsets: np.ndarray, sizes: np.ndarray, end: int) -> list[np.ndarray]:
    """Read encoded blocks of a file with so many bytes, at once where they lie close to each other."""
    if min(offsets.min(), sizes.min()) <= 0:
        raise ValueError("A block was never written.")
    if sizes.max() > end or (offsets > end - sizes).any():
        raise ValueError("The file is too short.")
    first, last = int(offsets.min()), int((offsets + sizes).max())
    total = int(sizes.sum())
    if last - first <= LARGEST_SPAN * total:
        memory = _read(file, first, _scratch("encoded", last - first))
        starts = offsets - first
    else:
        memory, starts = _scratch("encoded", total), np.cumsum(sizes) - sizes
        for offset, size, start in zip(offsets.tolist(), sizes.tolist(), starts.tolist(), strict=True):
            _read(file, offset, memory[start : start + size])
    return [memory[start : start + size] for start, size in zip(starts.tolist(), sizes.tolist(), strict=True)]


def _read(file: IO[bytes], offset: int, memory: np.ndarray) -> np.ndarray:
    file.seek(offset)
    if file.readinto(memory.data) != len(memory):  # type: ignore[attr-defined]
        raise ValueError("The file is too short.")
    return memory


def _scratch(name: str, size: int) -> np.ndarray:
    """Return bytes that this thread uses again and again."""
    memory: np.ndarray | None = _local.__dict__.get(name)
    if memory is None or len(memory) < size:
        memory = _local.__dict__[name] = np.empty(size, np.uint8)
    return memory[:size]
