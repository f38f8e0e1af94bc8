"""Makes a small realistic scene with truth, to try things on: `rsfm sample DIR`.

Files are written here; what they show is planned and painted in `rsfm.scene`.
"""

import argparse
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio.raw
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.errors import RasterioIOError
from rasterio.warp import transform as reproject

from rsfm.errors import UserError
from rsfm.raster.geopackage import GEOPACKAGE
from rsfm.raster.small_raster import small_raster
from rsfm.scene.classes import CLASSES, ROAD
from rsfm.scene.layout import Layout, lay_out
from rsfm.scene.patterns import mix
from rsfm.scene.polygons import DrawnPolygon, draw_polygons
from rsfm.scene.render import ACQUISITIONS, AFTER, BEFORE, Acquisition, photograph
from rsfm.scene.spectra import BANDS

GSD = 10
SMALLEST, LARGEST = 128, 4096
SCENE_CRS = CRS.from_epsg(32633)
LABELS_CRS = CRS.from_epsg(4326)
CORNER = (498_000, 5_102_000)
"""East and north of the upper left corner, in metres."""
TRANSFORM = Affine(GSD, 0, CORNER[0], 0, -GSD, CORNER[1])
NO_CLASS = 255
SEEN_AS = {"B4": ColorInterp.red, "B3": ColorInterp.green, "B2": ColorInterp.blue}
"""So that QGIS opens a scene in the colours an eye would see."""
STORAGE: dict[str, Any] = {
    "driver": "GTiff",
    "tiled": True,
    "blockxsize": 256,
    "blockysize": 256,
    "compress": "deflate",
    "predictor": 2,
}

README = """A made-up scene: {size} x {size} px of 10 m, EPSG:32633, seed {seed}. No licence; use it freely.

{dates}
labels.gpkg              {polygons} polygons in EPSG:4326 with the fields "class" and "color"; right for both summers
truth_classes_DATE.tif   class of every pixel: {classes}; 255 road, without class
truth_change.tif         1 where the class changed from {before} to {after} ({changed:.1%} of the pixels), else 0

Bands are reflectance x 10000, 0 is nodata. Forest and orchard, residential and industrial, narrow and wide rows have
the same pixel values and differ in pattern only. Fields change in brightness between dates: that is not in the truth.
Compare scene_{before}.tif with scene_{after}.tif; learn the classes on scene_{before}.tif.
"""


def main(arguments: list[str]) -> int:
    """Write the scene and return the exit code.

    Raises:
        UserError: a size out of range, or a folder that cannot be written.
    """
    parser = argparse.ArgumentParser("rsfm sample", description="Make a small realistic scene with truth.")
    parser.add_argument("folder", type=Path, metavar="DIR", help="where to write; made if it is absent")
    parser.add_argument("--size", type=int, default=1024, help=f"pixels a side, {SMALLEST} to {LARGEST}")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same scene")
    options = parser.parse_args(arguments)
    if not SMALLEST <= options.size <= LARGEST:
        raise UserError(f"The size is {options.size} px. Choose {SMALLEST} to {LARGEST} with --size.")
    if options.seed < 0:
        raise UserError(f"The seed is {options.seed}. Choose 0 or more with --seed.")
    try:
        make_sample(options.folder, options.size, options.seed)
    except (OSError, RasterioIOError) as error:
        raise UserError(f"The scene cannot be written to '{options.folder}' ({error}). Name another folder.") from error
    print(f"Scene: {options.folder}. README.md says what is what.")
    return 0


def make_sample(folder: Path, size: int, seed: int) -> None:
    """Write rasters of four dates, labels, truth and a page that explains them; files of the same name are replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    layout = lay_out(size, seed)
    fraction_2HW = mix(layout, seed)
    for taken in ACQUISITIONS:
        _write_scene(folder / scene_name(taken), photograph(layout, fraction_2HW, taken, seed), taken)
    for taken, class_HW in ((BEFORE, layout.before_HW), (AFTER, layout.after_HW)):
        _write_classes(folder / f"truth_classes_{taken.date}.tif", class_HW, taken)
    _write_change(folder / "truth_change.tif", layout.changed_HW)
    drawn = draw_polygons(layout, seed)
    _write_labels(folder / "labels.gpkg", drawn)
    (folder / "README.md").write_text(_readme(layout, size, seed, len(drawn)), encoding="utf-8")


def scene_name(taken: Acquisition) -> str:
    return f"scene_{taken.date}.tif"


def _write_scene(path: Path, pixels_CHW: NDArray[np.uint16], taken: Acquisition) -> None:
    descriptions = [f"{name} {wavelength} nm" for name, wavelength in BANDS.items()]
    tags = {"ACQUISITIONDATETIME": f"{taken.date}T10:00:31Z", "REFLECTANCE_SCALE": "10000"}
    wavelengths = [{"wavelength": str(nm), "wavelength_units": "nanometers"} for nm in BANDS.values()]
    _write_raster(path, pixels_CHW, nodata=0, tags=tags, descriptions=descriptions, band_tags=wavelengths)


def _write_classes(path: Path, class_HW: NDArray[np.uint8], taken: Acquisition) -> None:
    stored_HW = np.where(class_HW == ROAD, np.uint8(NO_CLASS), class_HW)
    palette = {value: rgb(land_class.colour) for value, land_class in enumerate(CLASSES, start=1)}
    tags = {f"CLASS_{value}": land_class.name for value, land_class in enumerate(CLASSES, start=1)}
    tags |= {f"CLASS_{value}_COLOUR": land_class.colour for value, land_class in enumerate(CLASSES, start=1)}
    tags["ACQUISITIONDATETIME"] = f"{taken.date}T10:00:31Z"
    _write_raster(path, stored_HW[None], nodata=NO_CLASS, tags=tags, descriptions=["class"], palette=palette)


def _write_change(path: Path, changed_HW: NDArray[np.bool_]) -> None:
    tags = {"CLASS_0": "unchanged", "CLASS_1": "changed", "BEFORE": str(BEFORE.date), "AFTER": str(AFTER.date)}
    palette = {0: (60, 60, 60), 1: (255, 210, 0)}
    _write_raster(path, changed_HW[None].astype(np.uint8), tags=tags, descriptions=["change"], palette=palette)


def _write_raster(
    path: Path,
    pixels_CHW: NDArray[Any],
    *,
    tags: dict[str, str],
    descriptions: list[str],
    nodata: int | None = None,
    band_tags: list[dict[str, str]] | None = None,
    palette: dict[int, tuple[int, int, int]] | None = None,
) -> None:
    """Write a tiled GeoTIFF on the scene's grid."""
    count, height, width = pixels_CHW.shape
    grid = {"crs": SCENE_CRS, "transform": TRANSFORM, "height": height, "width": width, "count": count}
    photometric = "palette" if palette else "minisblack"
    form = {**STORAGE, **grid, "dtype": pixels_CHW.dtype, "nodata": nodata, "photometric": photometric}
    with small_raster(path, **form) as file:
        if palette:  # before the pixels: the palette is part of the header
            file.write_colormap(1, {value: (*colour, 255) for value, colour in palette.items()})
        file.write(pixels_CHW)
        file.update_tags(**tags)
        for band, description in enumerate(descriptions, start=1):
            file.set_band_description(band, description)
        if band_tags:
            file.colorinterp = [SEEN_AS.get(name.split()[0], ColorInterp.undefined) for name in descriptions]
        for band, entries in enumerate(band_tags or [], start=1):
            file.update_tags(band, **entries)


def _write_labels(path: Path, drawn: list[DrawnPolygon]) -> None:
    """Write the polygons in degrees, as somebody who drew them in another project would hand them over."""
    shapes = []
    for polygon in drawn:
        easts, norths = CORNER[0] + GSD * polygon.vertices_V2[:, 1], CORNER[1] - GSD * polygon.vertices_V2[:, 0]
        longitudes, latitudes = reproject(SCENE_CRS, LABELS_CRS, easts, norths)
        shapes.append(shapely.Polygon(np.stack([longitudes, latitudes], 1)))
    partial = path.with_name(f"{path.stem}.partial.gpkg")
    partial.unlink(missing_ok=True)
    pyogrio.raw.write(
        partial,
        np.array(shapely.to_wkb(shapes), object),
        field_data=[
            np.array([polygon.land_class.name for polygon in drawn], object),
            np.array([polygon.land_class.colour for polygon in drawn], object),
        ],
        fields=np.array(["class", "color"], object),
        layer="labels",
        geometry_type="Polygon",
        crs=LABELS_CRS.to_string(),
        **GEOPACKAGE,
    )
    os.replace(partial, path)


def _readme(layout: Layout, size: int, seed: int, polygons: int) -> str:
    dates = []
    for taken in ACQUISITIONS:
        remarks = [f"clouds and shadows over about {taken.cloudy:.0%}"] if taken.cloudy else []
        remarks += ["nodata where the swath ends"] if taken.collar else []
        remarks += ["no clouds"] if not taken.cloudy else []
        dates.append(f"{scene_name(taken):<25}{len(BANDS)} bands {', '.join(BANDS)}; {', '.join(remarks)}")
    return README.format(
        size=size,
        seed=seed,
        dates="\n".join(dates),
        polygons=polygons,
        classes=", ".join(f"{value} {land_class.name}" for value, land_class in enumerate(CLASSES, start=1)),
        before=BEFORE.date,
        after=AFTER.date,
        changed=float(layout.changed_HW.mean()),
    )


def rgb(colour: str) -> tuple[int, int, int]:
    """Read "#rrggbb"."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
