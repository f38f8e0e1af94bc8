"""Real rasters with polygons of classes, or with a truth in which polygons are drawn.

Shape letters: H rows, W columns.
"""

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyogrio.raw
import rasterio
import shapely
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.features import shapes
from rasterio.transform import from_origin
from scipy import ndimage
from shapely import affinity

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("RSFM_TEST_DATA", ROOT.parent / "shared" / "data"))
SQUARE, SQUARES = 5, 40
"""Side of a square in pixels, and how many of a class are drawn, where truth is known everywhere."""


class Ground(NamedTuple):
    """A raster and what is known of it.

    Attributes:
        labels: polygons, or a raster of the truth of every pixel.
        field: the attribute that holds the class.
        unlabelled: values of the truth that are no class.
        whole: the truth is of a few areas, each of which is a polygon.
    """

    raster: Path
    labels: Path
    field: str = "class"
    unlabelled: tuple[int, ...] = ()
    whole: bool = False


GROUNDS = {
    "naip_dakota": Ground(DATA / "naip_dakota/naip_west_20160816.tif", DATA / "demo_bundle/labels.gpkg", "class_name"),
    "s2_slovenia": Ground(
        DATA / "s2_slovenia/S2_L1C_20150711.tif", DATA / "s2_slovenia/lulc_polygons.gpkg", "LULC_NAME"
    ),
    "s2_carolina": Ground(
        DATA / "s2_carolina/S2B_L1C_20181013_8band_uint8.tif",
        DATA / "s2_carolina/land_cover_polygons.gpkg",
        "Classname",
    ),
    "landsat8": Ground(
        DATA / "landsat/L8_elkton_10band_dn.tif", DATA / "landsat/L8_elkton_labels.tif", unlabelled=(255,), whole=True
    ),
    "landsat7_clouds": Ground(
        DATA / "cloud_masks/landsat7_toa_6band_float32_nocrs.tif", DATA / "cloud_masks/landsat7_mask.tif"
    ),
    "texture_scene": Ground(DATA / "texture_scene/scene.tif", DATA / "texture_scene/truth.tif", unlabelled=(0, 255)),
}


def prepare(ground: Ground, folder: Path) -> Ground:
    """Give the raster a CRS if it has none, and draw polygons where the labels are a raster."""
    with rasterio.open(ground.raster) as file:
        profile, pixels_CHW = file.profile, file.read() if file.crs is None else None
    if pixels_CHW is not None:
        placed = {"crs": CRS.from_epsg(32633), "transform": from_origin(500000, 5100000, 30, 30)}
        profile |= placed
        ground = ground._replace(raster=folder / ground.raster.name)
        with rasterio.open(ground.raster, "w", **profile) as file:
            file.write(pixels_CHW)
    if ground.labels.suffix == ".tif":
        with rasterio.open(ground.labels) as file:
            truth_HW = file.read(1)
        found = outline_areas(truth_HW, ground) if ground.whole else draw_squares(truth_HW, ground)
        ground = ground._replace(labels=folder / "polygons.gpkg")
        write_polygons(ground.labels, found, profile)
    return ground


def outline_areas(truth_HW: NDArray[Any], ground: Ground) -> list[tuple[Any, int]]:
    """Return the outline of each area, in pixels, and its class."""
    known_HW = ~np.isin(truth_HW, ground.unlabelled)
    return [(shapely.geometry.shape(area), int(value)) for area, value in shapes(truth_HW, known_HW)]


def draw_squares(truth_HW: NDArray[Any], ground: Ground) -> list[tuple[Any, int]]:
    """Draw squares of one class each, in pixels and apart from each other, and return them with their class."""
    same_HW = ndimage.minimum_filter(truth_HW, SQUARE) == ndimage.maximum_filter(truth_HW, SQUARE)
    half, free_HW = SQUARE // 2, np.zeros(truth_HW.shape, bool)
    free_HW[half:-half, half:-half] = True
    random, found = np.random.default_rng(0), []
    for value in sorted(set(np.unique(truth_HW).tolist()) - set(ground.unlabelled)):
        left = SQUARES
        for place in random.permutation(np.flatnonzero(same_HW & (truth_HW == value))):
            row, column = divmod(int(place), truth_HW.shape[1])
            if left and free_HW[row, column]:
                found.append((shapely.box(column - half, row - half, column + half + 1, row + half + 1), value))
                free_HW[max(row - SQUARE, 0) : row + SQUARE + 1, max(column - SQUARE, 0) : column + SQUARE + 1] = False
                left -= 1
    return found


def write_polygons(path: Path, found: list[tuple[Any, int]], profile: dict[str, Any]) -> None:
    """Write polygons given in pixels with their classes."""
    affine = profile["transform"].to_shapely()
    wkb = shapely.to_wkb([affinity.affine_transform(shape, affine) for shape, _ in found])
    names = np.array([f"class {value}" for _, value in found], object)
    path.unlink(missing_ok=True)
    pyogrio.raw.write(path, wkb, [names], ["class"], geometry_type="Polygon", crs=profile["crs"].to_wkt())
