"""Decodes a raster without GDAL where whole blocks of plain TIFFs give its pixels, also as the sources of a VRT.

Shape letters: C bands, H rows, W columns.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from xml.etree import ElementTree

import numpy as np

from rsfm.raster.grid import Window
from rsfm.raster.tiff_blocks import TiffBlocks

PLAIN_SOURCE = {"SourceFilename", "SourceBand", "SourceProperties", "SrcRect", "DstRect"}
PLAIN_BAND = {"SimpleSource", "ColorInterp", "ColorTable", "Description", "Metadata", "NoDataValue", "Histograms"}
"""Parts of a VRT that leave the pixels as its files hold them."""


class Blocks(Protocol):
    """What may fill bands_C of H x W pixels with a window of the bands of these numbers; False leaves it to GDAL."""

    def read(self, window: Window, numbers: Sequence[int], bands_C: Sequence[np.ndarray]) -> bool: ...


class NoBlocks:
    """The blocks of a raster that GDAL alone can read."""

    def read(self, window: Window, numbers: Sequence[int], bands_C: Sequence[np.ndarray]) -> bool:
        return False


def find_blocks(dataset: Any) -> Blocks:
    """Find the blocks of a file of GDAL; an overview of it has none."""
    found: Blocks | None = None
    if dataset.driver == "GTiff":
        blocks = TiffBlocks.find(dataset.name)
        shape = blocks and (blocks.layout.bands, blocks.layout.height, blocks.layout.width)
        found = blocks if shape == (dataset.count, dataset.height, dataset.width) else None
    elif dataset.driver == "VRT":
        found = MosaicBlocks.find(dataset)
    return found or NoBlocks()


class _Source(NamedTuple):
    """A file that gives a part of a band: where the part lies in the file and in the band."""

    path: str
    number: int
    inside: Window
    outside: Window


class MosaicBlocks:
    """The blocks of a VRT's sources, where these are plain TIFFs and keep the size of their pixels."""

    def __init__(self, sources: list[list[_Source]]) -> None:
        self._sources = sources
        self._files: dict[str, TiffBlocks | None] = {}

    @classmethod
    def find(cls, dataset: Any) -> "MosaicBlocks | None":
        """Return the sources of each band, None when a band is made in another way."""
        text = dataset.tags(ns="xml:VRT").get("xml:VRT", "")
        folder = Path(dataset.name).parent
        try:
            root = ElementTree.fromstring(text)  # noqa: S314 GDAL wrote it just now
            size = int(root.get("rasterYSize", "0")), int(root.get("rasterXSize", "0"))
            bands = root.findall("VRTRasterBand")
            if (
                root.get("subClass")
                or len(set(dataset.dtypes)) > 1
                or size != dataset.shape
                or len(bands) != dataset.count
            ):
                return None
            return cls([_sources(band, folder) for band in bands])
        except (ElementTree.ParseError, ValueError, TypeError):
            return None

    def read(self, window: Window, numbers: Sequence[int], bands_C: Sequence[np.ndarray]) -> bool:
        """Fill arrays where one file covers the window, as `TiffBlocks.read` does."""
        wanted: dict[tuple[str, Window], list[tuple[int, np.ndarray]]] = {}
        for number, band_HW in zip(numbers, bands_C, strict=True):
            shown = [source for source in self._sources[number - 1] if _size(source.outside.intersection(window))]
            if len(shown) != 1 or shown[0].outside.intersection(window) != window:
                return False
            path, inner, inside, outside = shown[0]
            row, column = window.row - outside.row + inside.row, window.column - outside.column + inside.column
            part = Window(row, column, window.height, window.width)
            wanted.setdefault((path, part), []).append((inner, band_HW))
        return all(self._read(path, part, pieces) for (path, part), pieces in wanted.items())

    def _read(self, path: str, part: Window, pieces: list[tuple[int, np.ndarray]]) -> bool:
        if path not in self._files:
            self._files[path] = TiffBlocks.find(path)
        file = self._files[path]
        numbers, bands_C = zip(*pieces, strict=True)
        return file is not None and max(numbers) <= file.layout.bands and file.read(part, numbers, bands_C)


def _sources(band: ElementTree.Element, folder: Path) -> list[_Source]:
    """Return the sources of a band.

    Raises:
        ValueError, TypeError: it has others than plain ones.
    """
    if band.get("subClass") or any(part.tag not in PLAIN_BAND or part.get("domain") for part in band):
        raise ValueError("This band is not made of plain sources.")
    return [_source(source, folder) for source in band.iterfind("SimpleSource")]


def _source(source: ElementTree.Element, folder: Path) -> _Source:
    name, inside, outside = source.find("SourceFilename"), _window(source, "SrcRect"), _window(source, "DstRect")
    if name is None or not name.text or any(part.tag not in PLAIN_SOURCE for part in source):
        raise ValueError("This source is not plain.")
    if (inside.height, inside.width) != (outside.height, outside.width):
        raise ValueError("This source is resized.")
    path = folder / name.text if name.get("relativeToVRT") == "1" else Path(name.text)
    return _Source(str(path), int(source.findtext("SourceBand", "1")), inside, outside)


def _window(source: ElementTree.Element, tag: str) -> Window:
    part = source.find(tag)
    values = [float(part.get(key, "nan")) for key in ("yOff", "xOff", "ySize", "xSize")] if part is not None else []
    window = Window(*map(int, values))
    if list(window) != values:
        raise ValueError("This source lies between pixels.")
    return window


def _size(window: Window) -> int:
    return window.height * window.width
