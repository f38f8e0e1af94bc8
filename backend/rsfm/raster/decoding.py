"""Keeps rasters decoded on disk while a training lasts, or tells whether that would have paid."""

import math
from collections.abc import Callable, Sequence

from rsfm.raster.decoded_cache import DecodedCache, Rates, pays, room_for
from rsfm.raster.entry_raster import EntryRaster
from rsfm.raster.reader import Raster
from rsfm.raster.window_reader import WindowReader

GB = 10**9
LEAST_SHARE = 0.05
"""Of a training's time that decoding must take before anything is said of it."""
LOOKED_AT = 64
"""Rasters that are opened to estimate what all take."""


def keep_decoded(disk: DecodedCache, rasters: Sequence[EntryRaster], report: Callable[[int, int], None]) -> int:
    """Decode as many rasters as fit, one after the other, and return how many; what an ended run left is used.

    Args:
        report: told before each raster how many were looked at, and of how many; it may raise to stop.
    """
    left, kept = disk.limit_bytes, 0
    for number, raster in enumerate(rasters):
        report(number, len(rasters))
        with raster.lend() as file:
            if room_for(file) <= left and disk.add(file):
                left, kept = left - room_for(file), kept + 1
    return kept


def advice(
    reader: WindowReader,
    rasters: Sequence[EntryRaster],
    seconds: float,
    measured: Callable[[Raster], Rates],
) -> str:
    """Say what decoding took of a training, where the disk would have saved most of it; else empty.

    Args:
        seconds: that the training lasted.
        measured: how fast a raster is decoded and written; asked only if it matters.
    """
    if reader.decoded_seconds < LEAST_SHARE * seconds:
        return ""
    looked_at = rasters[:LOOKED_AT]
    total = sum(map(_size, looked_at)) * len(rasters) // len(looked_at)
    with rasters[0].lend() as file:
        rates = measured(file)
    if not pays(total, reader.memory_bytes, reader.decoded_bytes / total, rates):
        return ""
    return (
        f"Decoding the rasters took threads {reader.decoded_seconds / seconds:.0%} of the training's time. Decoded on "
        f"disk they are only read: set 'Cache gb' under 'Sampling' to {math.ceil(10 * total / GB) / 10:.1f}."
    )


def _size(raster: EntryRaster) -> int:
    with raster.lend() as file:
        return room_for(file)
