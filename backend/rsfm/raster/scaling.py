"""Turns stored pixels into the numbers that are learned from: scale, offset, and decibels for linear radar.

Statistics, training and mapping call the same function, so that the same pixels give the same numbers.
Shape letters: C bands, H rows, W columns; further axes may come first.
"""

import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from rsfm.raster.collection import Entry
from rsfm.raster.validity import nodata_marker

RADAR = frozenset({"vv", "vh", "hh", "hv"})
LOGARITHMIC = frozenset({"db", "decibel", "decibels"})


def to_units(
    pixels_CHW: np.ndarray, valid_HW: np.ndarray, entry: Entry, bands: Sequence[str] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Scale pixels as an entry of a collection says, and bring linear radar bands to decibels.

    Args:
        pixels_CHW: as stored, of any type.
        bands: names of the C bands; None when they are all bands of the entry, in its order.

    Returns:
        pixels_CHW: float32 (a copy, or the array itself where nothing is to be done), 0 where invalid.
        valid_HW: bool, False also where `usable` says so.
    """
    valid_HW = usable(pixels_CHW, valid_HW, entry, bands)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        found_CHW = _linear(pixels_CHW, entry)
        for channel in radar_bands(entry, bands):
            found_CHW = found_CHW.copy() if found_CHW is pixels_CHW else found_CHW
            found_CHW[..., channel, :, :] = 10 * np.log10(found_CHW[..., channel, :, :])
        found_CHW = found_CHW.astype(np.float32, copy=False)
    if pixels_CHW.dtype.kind == "f":  # not finite as stored, or too large for float32
        valid_HW = valid_HW & np.isfinite(found_CHW).all(axis=-3)
    if valid_HW.all():
        return found_CHW, valid_HW
    return np.where(valid_HW[..., None, :, :], found_CHW, np.float32(0)), valid_HW


def usable(
    pixels_CHW: np.ndarray, valid_HW: np.ndarray, entry: Entry, bands: Sequence[str] | None = None
) -> np.ndarray:
    """Return valid_HW without pixels that have, in any band, the entry's nodata or no logarithm."""
    marker = nodata_marker(entry.nodata, pixels_CHW.dtype)
    if marker is not None:
        valid_HW = valid_HW & (pixels_CHW != marker).all(axis=-3)
    for channel in radar_bands(entry, bands):
        valid_HW = valid_HW & (_linear(pixels_CHW[..., channel, :, :], entry) > 0)
    return valid_HW


def radar_bands(entry: Entry, bands: Sequence[str] | None = None) -> list[int]:
    """Return which bands hold linear backscatter, by their names, such as "VV" or "Sigma0_VH"."""
    names = [band.name for band in entry.bands] if bands is None else bands
    return [] if entry.decibel else [channel for channel, name in enumerate(names) if _is_linear_radar(name)]


@lru_cache(maxsize=4096)
def _is_linear_radar(name: str) -> bool:
    words = set(re.split(r"[^a-z0-9]+", name.lower()))
    return bool(words & RADAR) and not words & LOGARITHMIC


def _linear(pixels: np.ndarray, entry: Entry) -> np.ndarray:
    """Return stored * scale + offset, in float64 where float32 could not hold what is stored."""
    found = pixels.astype(np.result_type(pixels.dtype, np.float32), copy=False)
    if entry.scale != 1:
        found = found * found.dtype.type(entry.scale)
    if entry.offset != 0:
        found = found + found.dtype.type(entry.offset)
    return found
