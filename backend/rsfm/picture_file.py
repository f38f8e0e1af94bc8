"""Small pictures for a report: pixels of any bands made visible, and written as PNG or JPEG.

Shape letters: N windows, C bands, H rows, W columns; RGB is 3.
"""

import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import MemoryFile

from rsfm.raster.band_names import Described, canonical, name_bands
from rsfm.whole_file import write_whole

HIDDEN = 128
"""Gray of what is not shown."""
NATURAL = ("red", "green", "blue")
STRETCH = (2, 98)
"""Percentiles of the valid pixels that become black and white."""


def shown_bands(names: Sequence[str]) -> tuple[int, int, int]:
    """Choose the indices of bands to show as red, green and blue: those of natural colours, or the first three.

    "Band 4" says nothing of what a band sees.
    """
    told = ["" if re.fullmatch(r"Band \d+", name) else name for name in names]
    described = [Described(number, name, {}) for number, name in enumerate(told, 1)]
    known = [canonical(band.name) for band in name_bands(described, []).bands]
    if all(colour in known for colour in NATURAL):
        red, green, blue = (known.index(colour) for colour in NATURAL)
        return red, green, blue
    last = len(known) - 1
    return 0, min(1, last), min(2, last)


def limits(pixels_NCHW: NDArray[np.float32], shown_NCHW: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return low and high of each band, limits_2C, between which it is stretched; of the pixels shown."""
    bands = pixels_NCHW.shape[1]
    found_2C = np.tile(np.array([[0.0], [1.0]], np.float32), bands)
    for band in range(bands):
        values = pixels_NCHW[:, band][shown_NCHW[:, band]]
        if values.size:
            found_2C[:, band] = np.percentile(values, STRETCH)
    found_2C[1] = np.maximum(found_2C[1], found_2C[0] + 1e-6)
    return found_2C


def stretch(
    pixels_CHW: NDArray[np.float32], shown_CHW: NDArray[np.bool_], limits_2C: NDArray[np.float32], hidden: int = HIDDEN
) -> NDArray[np.uint8]:
    """Make three bands visible, colours_RGBHW; a pixel that is not shown in any of them has one gray."""
    low_C11, high_C11 = limits_2C[:, :, None, None]
    part_CHW = np.clip((pixels_CHW - low_C11) / (high_C11 - low_C11), 0, 1)
    colours_CHW = np.rint(np.nan_to_num(part_CHW) * 255).astype(np.uint8)
    return np.where(shown_CHW.all(0), colours_CHW, np.uint8(hidden))


def write_picture(path: Path, colours_CHW: NDArray[np.uint8]) -> None:
    """Write one or three bands as the ending says, ".png" without loss or ".jpg"."""
    write_whole(path, encode(colours_CHW, "JPEG" if path.suffix == ".jpg" else "PNG"))


def shrink_picture(path: Path, side: int) -> bytes:
    """Return a picture as JPEG, with no side longer than that; a fourth band, transparency, is left out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path) as file:
            factor = min(1.0, side / max(file.height, file.width))
            bands = 3 if file.count >= 3 else 1
            shape = (bands, max(1, round(file.height * factor)), max(1, round(file.width * factor)))
            colours_CHW = file.read(list(range(1, bands + 1)), out_shape=shape, resampling=Resampling.average)
    return encode(colours_CHW, "JPEG")


def encode(colours_CHW: NDArray[np.uint8], driver: Literal["PNG", "JPEG"]) -> bytes:
    """Return the bytes of a picture of one or three bands."""
    options = {"quality": 85} if driver == "JPEG" else {}
    bands, height, width = colours_CHW.shape
    shape = {"count": bands, "height": height, "width": width, "dtype": "uint8"}
    with warnings.catch_warnings(), MemoryFile() as memory:
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with memory.open(driver=driver, **shape, **options) as file:
            file.write(colours_CHW)
        return bytes(memory.getbuffer())
