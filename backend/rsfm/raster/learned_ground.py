"""What ground was learned from: its rasters in small, with the windows that were drawn and what was held out.

Shape letters: N windows, P points, R corners of a ring, H rows, W columns.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.features import shapes
from rasterio.warp import transform as transform_coordinates

from rsfm.picture_file import limits, shown_bands, stretch, write_picture
from rsfm.raster.collection_sampler import CollectionSampler
from rsfm.raster.describing import describe_raster
from rsfm.raster.entry_raster import EntryRaster
from rsfm.raster.grid import Grid
from rsfm.raster.held_out import METRES_OF_A_DEGREE, HeldOut
from rsfm.raster.quicklook import Quicklook, quicklook
from rsfm.raster.reader import open_raster

MOST_PICTURES = 6
MOST_LISTED = 40
HATCHED_STEP = 4
"""Pixels of the picture between two points that are asked whether they are held out."""
NO_DATA = 255


def learned_ground(
    sampler: CollectionSampler, entry_N: NDArray[Any], corner_N2: NDArray[Any], folder: Path, until: float
) -> dict[str, Any]:
    """Draw the rasters that most windows were drawn from, into files ground-1.jpg and so on.

    Args:
        entry_N: the raster of each window.
        corner_N2: its row and column there.
        until: when to give up reading, by `time.monotonic()`.

    Returns:
        What the report needs to show them, as JSON can hold it.
    """
    counts = np.bincount(entry_N, minlength=len(sampler.rasters))
    order = np.argsort(-counts, kind="stable").tolist()
    shown = sorted(order[:MOST_PICTURES])
    pictures = []
    for number, entry in enumerate(shown, 1):
        raster, area = sampler.rasters[entry], sampler.areas[entry]
        bands = shown_bands(raster.band_names)
        numbers = tuple(raster.numbers[band] for band in bands)
        with open_raster(raster.path, "rasters", raster.entry.crs != "", numbers) as file:
            look = quicklook(file, area, raster.entry.nodata, until)
        path = folder / f"ground-{number}.jpg"
        shown_CHW = np.broadcast_to(look.valid_HW, look.pixels_CHW.shape)
        limits_2C = limits(look.pixels_CHW[None], shown_CHW[None])
        write_picture(path, stretch(look.pixels_CHW, shown_CHW, limits_2C, NO_DATA))
        pictures.append(
            {
                "name": raster.name,
                "file": path.name,
                "bands": [raster.band_names[band] for band in bands],
                "height": look.grid.height,
                "width": look.grid.width,
                "metres": math.sqrt(look.grid.pixel_area),
                "georeferenced": look.grid.crs is not None,
                "complete": look.complete,
                "windows": _outlines(look, raster.grid, corner_N2[entry_N == entry], sampler.size),
                "held_out": _held_out(look, sampler.held_out),
            }
        )
    return {
        "pictures": pictures,
        "rasters": [_facts(sampler.rasters[entry], int(counts[entry])) for entry in sorted(order[:MOST_LISTED])],
        "all": len(sampler.rasters),
        "window": sampler.size,
        "drawn": len(entry_N),
    }


def _facts(raster: EntryRaster, windows: int) -> dict[str, Any]:
    """Return what is known of a raster; sensor and date of one outside a collection are as its file or name says."""
    entry = raster.entry
    known = entry if entry.date or entry.sensor else describe_raster(entry.path)
    return {
        "name": raster.name,
        "sensor": known.sensor,
        "date": known.date,
        "height": entry.height,
        "width": entry.width,
        "gsd": raster.grid.gsd,
        "bands": list(raster.band_names),
        "windows": windows,
    }


def _outlines(look: Quicklook, grid: Grid, corner_N2: NDArray[Any], size: int) -> list[Any]:
    """Return the four corners of each window as column and row of the picture."""
    steps_R2 = np.array([[0, 0], [size, 0], [size, size], [0, size]])
    corners_NR2 = corner_N2[:, None, ::-1] + steps_R2
    placed_P2 = look.place(grid, corners_NR2.reshape(-1, 2).astype(float))
    placed: list[Any] = placed_P2.reshape(-1, 4, 2).round(1).tolist()
    return placed


def _held_out(look: Quicklook, held_out: HeldOut) -> list[Any]:
    """Return rings around the ground that is held out, as columns and rows of the picture."""
    if held_out.share <= 0:
        return []
    step = HATCHED_STEP
    rows_H, columns_W = (np.arange(step / 2, side, step) for side in (look.grid.height, look.grid.width))
    rows_HW, columns_HW = np.meshgrid(rows_H, columns_W, indexing="ij")
    longitude_P, latitude_P = _degrees(look.grid, columns_HW.ravel(), rows_HW.ravel())
    known_P = np.isfinite(longitude_P) & np.isfinite(latitude_P)
    held_P = np.zeros(len(known_P), bool)
    held_P[known_P] = held_out.holds(longitude_P[known_P], latitude_P[known_P])
    held_HW = held_P.reshape(rows_HW.shape)
    rings: list[Sequence[Any]] = []
    for shape, _ in shapes(held_HW.astype(np.uint8), mask=held_HW):
        rings.append([[[x * step, y * step] for x, y in ring] for ring in shape["coordinates"]])
    return rings


def _degrees(grid: Grid, columns_P: NDArray[Any], rows_P: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    a, b, c, d, e, f = grid.transform[:6]
    x_P, y_P = a * columns_P + b * rows_P + c, d * columns_P + e * rows_P + f
    if grid.crs is None:
        return x_P / METRES_OF_A_DEGREE, y_P / METRES_OF_A_DEGREE
    longitude, latitude = transform_coordinates(grid.crs, "EPSG:4326", x_P, y_P)
    return np.asarray(longitude), np.asarray(latitude)
