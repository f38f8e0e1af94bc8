"""Writes a later date where it belongs: as a small file that moves it, or on the grid of the earlier date."""

import os
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import rasterio.shutil
from rasterio.errors import RasterioError

from rsfm.differences.shift import Shift
from rsfm.errors import UserError
from rsfm.outputs.aligned import Aligned
from rsfm.raster.pair import Pair, moved_back
from rsfm.raster.reader import open_dataset, short_name
from rsfm.raster.writer import RasterWriter


def write_moved(path: Path, pair: Pair, shift: Shift) -> None:
    """Write a VRT that shows the later raster's own pixels, moved back by the shift; the raster stays as it is.

    Raises:
        UserError: GDAL cannot write it.
    """
    later = pair.after.raster
    transform = moved_back(later.grid, pair.before.grid, shift.down, shift.right).transform
    partial = path.with_name(f".{path.stem}.partial.vrt")
    try:
        with open_dataset(later.path, "after") as dataset:
            rasterio.shutil.copy(dataset, str(partial), driver="VRT")
        tree = ET.parse(partial)  # noqa: S314  GDAL has just written it
        _element(tree.getroot(), "GeoTransform").text = ", ".join(f"{value:.17g}" for value in transform.to_gdal())
        tree.write(partial, encoding="utf-8")
        os.replace(partial, path)
    except (RasterioError, OSError, ET.ParseError) as error:
        raise UserError(f"'{short_name(later.path)}' cannot be shown elsewhere by a VRT ({error}).", "after") from error
    finally:
        partial.unlink(missing_ok=True)


def write_resampled(path: Path, pair: Pair, done: Callable[[float], None]) -> None:
    """Write the later date on the grid of the overlap, as it is compared."""
    grid = pair.before.grid.crop(pair.window)
    with RasterWriter(path, Aligned, grid, pair.after.bands, pair.after.band_names) as writer:
        for strip in pair.strips(pair.window):
            pixels_CHW, valid_HW = pair.after.read(strip)
            writer.write(np.where(valid_HW, pixels_CHW, np.float32(np.nan)))
            done((strip.row + strip.height - pair.window.row) / pair.window.height)


def _element(root: ET.Element, name: str) -> ET.Element:
    found = root.find(name)
    return ET.SubElement(root, name) if found is None else found
