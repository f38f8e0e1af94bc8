"""Puts bands that lie in a file each together as one raster, in a VRT: a small text file that copies no pixel."""

import os
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree as ET

from rsfm.errors import UserError
from rsfm.raster.reader import open_dataset, short_name

_TYPES = {
    "uint8": "Byte", "int8": "Int8", "uint16": "UInt16", "int16": "Int16", "uint32": "UInt32", "int32": "Int32",
    "float32": "Float32", "float64": "Float64",
}  # fmt: skip


class _File(NamedTuple):
    name: str
    path: str
    crs: Any
    transform: Any
    height: int
    width: int
    dtype: str
    nodata: float | None
    block: tuple[int, int]
    tags: dict[str, str]


def write_vrt(target: Path, bands: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """Write a VRT on the grid of the finest band; coarser ones are resized bilinearly while reading.

    Args:
        bands: name and file of each, in order.

    Returns:
        The metadata of the first file.

    Raises:
        UserError: a file cannot be read, or the bands lie in different CRSs.
    """
    files = [_look(name, path) for name, path in bands]
    finest = min(files, key=lambda file: abs(file.transform.a))
    other = next((file for file in files if file.crs != finest.crs), None)
    if other is not None:
        raise UserError(
            f"The bands of '{target.stem}' lie in different CRSs: '{short_name(finest.path)}' in {finest.crs}, "
            f"'{short_name(other.path)}' in {other.crs}. Warp them to one in QGIS with 'Warp (reproject)'.",
            "rasters",
        )
    root = ET.Element("VRTDataset", rasterXSize=str(finest.width), rasterYSize=str(finest.height))
    if finest.crs:
        ET.SubElement(root, "SRS", dataAxisToSRSAxisMapping="1,2").text = finest.crs.to_wkt()
    ET.SubElement(root, "GeoTransform").text = ", ".join(f"{value:.17g}" for value in finest.transform.to_gdal())
    for number, file in enumerate(files, 1):
        _add_band(root, number, file, finest, target.parent)
    write_tree(root, target)
    return files[0].tags


def _look(name: str, path: str) -> _File:
    with open_dataset(path, "rasters") as file:
        if file.count != 1:
            raise UserError(f"'{short_name(path)}' should hold the band {name} alone, but has {file.count}.", "rasters")
        tags = {**file.tags(), **file.tags(ns="IMAGERY")}
        shape = file.crs or None, file.transform, file.height, file.width
        return _File(name, path, *shape, file.dtypes[0], file.nodata, file.block_shapes[0], tags)


def _add_band(root: ET.Element, number: int, file: _File, finest: _File, folder: Path) -> None:
    band = ET.SubElement(root, "VRTRasterBand", dataType=_TYPES.get(file.dtype, "Float64"), band=str(number))
    ET.SubElement(band, "Description").text = file.name
    if file.nodata is not None:
        ET.SubElement(band, "NoDataValue").text = f"{file.nodata:.17g}"
    coarser = (file.height, file.width) != (finest.height, finest.width)
    kind = "ComplexSource" if file.nodata is not None else "SimpleSource"
    source = ET.SubElement(band, kind, {"resampling": "bilinear"} if coarser else {})
    add_filename(source, file.path, folder)
    ET.SubElement(source, "SourceBand").text = "1"
    block = {"BlockXSize": str(file.block[1]), "BlockYSize": str(file.block[0])}
    size = {"RasterXSize": str(file.width), "RasterYSize": str(file.height)}
    ET.SubElement(source, "SourceProperties", {**size, "DataType": _TYPES.get(file.dtype, "Float64"), **block})
    add_window(source, "SrcRect", 0, 0, file.width, file.height)
    left, top = ~finest.transform @ (file.transform.c, file.transform.f)
    right, bottom = ~finest.transform @ (file.transform @ (file.width, file.height))
    add_window(source, "DstRect", left, top, right - left, bottom - top)
    if file.nodata is not None:
        ET.SubElement(source, "NODATA").text = f"{file.nodata:.17g}"


def write_tree(root: ET.Element, target: Path) -> None:
    """Write a VRT as a whole, and its folder."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    ET.ElementTree(root).write(partial, encoding="utf-8")
    os.replace(partial, target)


def add_filename(source: ET.Element, path: str, folder: Path) -> None:
    """Name the file of a source; from the VRT's folder if it lies beside it, so that both can be moved together."""
    inside = Path(path).is_relative_to(folder.parent)
    name = os.path.relpath(path, folder) if inside else path
    ET.SubElement(source, "SourceFilename", relativeToVRT=str(int(inside))).text = name


def add_window(source: ET.Element, name: str, left: float, top: float, width: float, height: float) -> None:
    """Add a rectangle in pixels, such as the part of the source that is read."""
    values = {"xOff": left, "yOff": top, "xSize": width, "ySize": height}
    ET.SubElement(source, name, {key: f"{value:.12g}" for key, value in values.items()})
