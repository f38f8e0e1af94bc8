"""Two dates on which squares appear, and what an analyst would draw of it."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyogrio
import rasterio
import shapely
from affine import Affine

WEST, NORTH, GSD, SIDE = 500000, 5100000, 2.0, 192
SQUARES = [(row, column) for row in range(8, 170, 32) for column in range(10, 170, 32)]
QUICK: dict[str, Any] = {
    "training": {"minutes": 0, "epochs": 9, "batch_size": 4, "learning_rate": 3e-3, "weight_decay": 0.01},
    "window": 64,
    "encoder": {"name": "conv_small", "width": 32},
    "head": {"name": "siamese", "width": 16},
    "device": "cpu",
}


class Places(NamedTuple):
    """Files: two dates, polygons of all squares that came, and the whole as "west,south,east,north"."""

    before: Path
    after: Path
    changes: Path
    whole: str


def make_places(folder: Path) -> Places:
    """Write two dates of 192 x 192 pixels: fields whose brightness differs, squares that came, nodata on the right."""
    random = np.random.default_rng(0)
    fields = np.kron(random.uniform(300, 900, (3, 12, 12)), np.ones((16, 16)))
    before, after = (fields + random.normal(0, 20, fields.shape) for _ in range(2))
    after = after * 1.3 + 50 + np.kron(random.normal(0, 60, (1, 12, 12)), np.ones((16, 16)))
    for row, column in SQUARES:
        after[0, row : row + 12, column : column + 12] += 700
        after[2, row : row + 12, column : column + 12] -= 250
    after[:, :, 188:] = 0
    paths = [write(folder / f"{name}.tif", pixels) for name, pixels in (("before", before), ("after", after))]
    changes = write_polygons(folder / "changes.gpkg", [on_map(row, column, 12) for row, column in SQUARES])
    whole = f"{WEST},{NORTH - SIDE * GSD},{WEST + SIDE * GSD},{NORTH}"
    return Places(*paths, changes, whole)


def write(path: Path, pixels: np.ndarray, down: float = 0) -> Path:
    shape = {"count": 3, "height": SIDE, "width": SIDE, "dtype": "uint16", "nodata": 0}
    place = {"crs": "EPSG:32633", "transform": Affine(GSD, 0, WEST, 0, -GSD, NORTH - down)}
    with rasterio.open(path, "w", driver="GTiff", **shape, **place) as target:
        target.write(pixels.clip(0).astype("uint16"))
    return path


def on_map(row: float, column: float, side: float) -> Any:
    x, y = WEST + column * GSD, NORTH - row * GSD
    return shapely.box(x, y - side * GSD, x + side * GSD, y)


def write_polygons(path: Path, shapes: list[Any], names: list[str] | None = None, kind: str = "Polygon") -> Path:
    values = np.array(names or ["square"] * len(shapes), dtype=object)
    wkb = shapely.to_wkb(np.array(shapes, object))
    pyogrio.raw.write(path, wkb, [values], ["class"], geometry_type=kind, crs="EPSG:32633")
    return path


def truth() -> np.ndarray:
    changed_HW = np.zeros((SIDE, SIDE), bool)
    for row, column in SQUARES:
        changed_HW[row : row + 12, column : column + 12] = True
    return changed_HW
