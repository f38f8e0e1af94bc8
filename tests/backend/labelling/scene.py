"""A raster of three classes in squares, with polygons of them, and files as the plugin writes them."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.transform import from_origin

WEST, NORTH, PIXEL = 500000.0, 5100000.0, 10.0
NAMES = ("bare", "field", "water")


def write_scene(path: Path, side: int = 700, square: int = 100, seed: int = 0) -> np.ndarray:
    """Write a raster of 3 bands and return its truth_HW, 1 to 3; the first 20 rows are nodata."""
    random = np.random.default_rng(seed)
    count = -(-side // square)
    small = (np.arange(count)[:, None] + np.arange(count)[None]) % 3 + 1
    truth_HW = np.kron(small, np.ones((square, square), int))[:side, :side]
    level_K3 = np.array([[0, 0, 0], [900, 700, 400], [1200, 700, 900], [700, 1100, 400]])
    pixels_HWC = level_K3[truth_HW] + random.normal(0, 90, (side, side, 3))
    pixels_CHW = np.moveaxis(pixels_HWC, -1, 0).clip(1, 60000).astype("uint16")
    pixels_CHW[:, :20] = 0
    profile: dict[str, Any] = {
        "driver": "GTiff", "count": 3, "height": side, "width": side, "dtype": "uint16", "nodata": 0,
        "crs": "EPSG:32633", "transform": from_origin(WEST, NORTH, PIXEL, PIXEL), "tiled": True,
    }  # fmt: skip
    with rasterio.open(path, "w", **profile) as file:
        file.write(pixels_CHW)
    truth_HW[:20] = 255
    return truth_HW


def square(row: int, column: int, side: int, name: Any, **more: Any) -> dict[str, Any]:
    """Make a feature that covers side x side pixels from a corner on."""
    west, north = WEST + column * PIXEL, NORTH - row * PIXEL
    east, south = west + side * PIXEL, north - side * PIXEL
    ring = [[west, north], [east, north], [east, south], [west, south], [west, north]]
    geometry = {"type": "Polygon", "coordinates": [ring]}
    return {"type": "Feature", "properties": {"class": name, **more}, "geometry": geometry}


def write_labels(path: Path, features: list[dict[str, Any]], crs: str = "EPSG:32633") -> Path:
    """Write labels as the plugin does: at once, in place of those before."""
    whole = {
        "type": "FeatureCollection",
        "crs": {"type": "name", "properties": {"name": crs}},
        "features": features,
    }
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(whole))
    os.replace(partial, path)
    return path


def look(row: int, column: int, side: int) -> dict[str, Any]:
    """Look at side x side pixels from a corner on."""
    west, north = WEST + column * PIXEL, NORTH - row * PIXEL
    return {"bounds": [west, north - side * PIXEL, west + side * PIXEL, north], "crs": "EPSG:32633", "project": ""}


def write_look(folder: Path, said: dict[str, Any]) -> None:
    partial = folder / ".look.json.partial"
    partial.write_text(json.dumps(said))
    os.replace(partial, folder / "look.json")


def three_squares(row: int = 130, side: int = 12) -> list[dict[str, Any]]:
    """One polygon of each class, in the second row of squares."""
    return [square(row, 20 + column * 100, side, NAMES[(1 + column) % 3]) for column in range(3)]
