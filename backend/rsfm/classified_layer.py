"""The polygons of a layer before and after they are classified.

Shape letters: N features, K classes.
"""

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray

from rsfm.answers import Answers
from rsfm.errors import UserError
from rsfm.jobs.classify import ClassifyConfig
from rsfm.model_file import Model
from rsfm.raster.area import Area
from rsfm.raster.grid import Grid
from rsfm.raster.label_file import Parameters
from rsfm.raster.outlines import NO_POLYGON, NO_SHAPE, OFF_AREA, OUTSIDE, Outlines, place_outlines
from rsfm.raster.reader import Raster
from rsfm.raster.vector_table import Column, Table, free_name, read_table, write_table
from rsfm.runs import Run

PARAMETERS = Parameters(labels="polygons")
NODATA, NO_PIXEL = "nodata", "covers no pixel"
SENTENCES = {
    NO_SHAPE: ("has no geometry", "have no geometry"),
    NO_POLYGON: ("is not a polygon", "are not polygons"),
    OUTSIDE: ("lies outside the raster", "lie outside the raster"),
    OFF_AREA: ("lies outside the area", "lie outside the area"),
    NODATA: ("lies on nodata alone", "lie on nodata alone"),
    NO_PIXEL: ("covers no pixel", "cover no pixel"),
}
"""Said of one feature, and of several."""
FILE = "classified.gpkg"


class Layer(NamedTuple):
    """A layer, its polygons on the raster, and a digest of their geometries."""

    table: Table
    outlines: Outlines
    identity: str


def read_layer(source: str, raster: Raster, area: Area | None) -> Layer:
    """Read the polygons to classify.

    Raises:
        UserError: the file cannot be used, or not one of its polygons lies on the raster.
    """
    table = read_table(source, PARAMETERS)
    shape_N = shapely.from_wkb(table.wkb_N, on_invalid="ignore")
    outlines = place_outlines(shape_N, table.crs, raster.grid, area)
    if (outlines.reason_N != "").all():
        raise _nothing_to_do(table, outlines, raster)
    digest = hashlib.sha256(repr(table.crs.to_wkt()).encode())
    for wkb in table.wkb_N:
        digest.update(wkb or b"-")
    return Layer(table, outlines, digest.hexdigest())


def findings(layer: Layer) -> list[str]:
    """Say what was repaired and which polygons are smaller than a pixel."""
    table, outlines = layer.table, layer.outlines
    told, count = list(table.notes), len(table.fid_N)
    if outlines.repaired:
        told.append(
            f"{outlines.repaired} of {count} polygons were repaired for reading, because their outline crossed or "
            "touched itself; in the result they are as they were."
        )
    if outlines.tiny:
        told.append(f"{outlines.tiny} of {count} polygons cover no pixel centre; each takes the pixel in its middle.")
    return told


def write_layer(layer: Layer, answers: Answers, model: Model, config: ClassifyConfig, run: Run) -> dict[str, Any]:
    """Write the layer with its classes, and say which polygons have none."""
    table, reason_N = layer.table, layer.outlines.reason_N.copy()
    open_N = reason_N == ""
    reason_N[open_N & (answers.pixels_N == 0)] = NO_PIXEL
    reason_N[open_N & (answers.pixels_N > 0) & ~answers.known_N] = NODATA
    reasons = Counter(reason_N[reason_N != ""].tolist())
    for reason, number in reasons.items():
        said, has = SENTENCES[reason][number > 1], "have" if number > 1 else "has"
        run.warning(f"{number} of {len(reason_N)} features of '{table.name}' {said} and {has} no class.")
    names = [name.name for name in model.card.classes]
    named_N = np.array(names, object)[answers.class_N]
    share_N = np.where(open_N, answers.valid_share(layer.outlines.beyond_N), np.nan)
    added = {
        "predicted": Column(named_N, ~answers.known_N),
        "confidence": _rounded(answers.confidence_N),
        "valid_share": _rounded(share_N),
        "reason": Column(reason_N, reason_N == ""),
    }
    if config.probabilities:
        added |= {f"p_{name}": _rounded(answers.probability_NK[:, k]) for k, name in enumerate(names)}
    renamed = {free_name(name, table): column for name, column in added.items()}
    path = run.outputs / FILE
    write_table(path, table, renamed)
    classes = [{"value": name.name, "name": name.name, "colour": name.colour} for name in model.card.classes]
    field = next(iter(renamed))
    run.output("classified", path, f"Classes of {Path(table.name).stem}", field=field, classes=classes)
    counts = Counter(named_N[answers.known_N].tolist())
    return {
        "polygons": {name: counts[name] for name in names},
        "without_class": dict(reasons),
        "field": field,
        "mean_confidence": _mean(answers.confidence_N[answers.known_N]),
    }


def _rounded(value_N: NDArray[Any]) -> Column:
    return Column(np.round(value_N.astype(np.float64), 4))


def _mean(value_N: NDArray[Any]) -> float | None:
    return round(float(value_N.mean()), 4) if len(value_N) else None


def _nothing_to_do(table: Table, outlines: Outlines, raster: Raster) -> UserError:
    reasons = Counter(outlines.reason_N.tolist())
    found = ", ".join(f"{number} {SENTENCES[reason][number > 1]}" for reason, number in reasons.items())
    return UserError(
        f"Of the {len(table.fid_N)} features of '{table.name}', none is a polygon on '{raster.name}': {found}. The "
        f"raster is at {_bounds(raster.grid)} (west, south, east, north in {_crs(raster.grid)}). Choose polygons of "
        "this place under 'Polygons', or correct their CRS.",
        "polygons",
    )


def _bounds(grid: Grid) -> str:
    return ", ".join(f"{value:.7g}" for value in grid.bounds)


def _crs(grid: Grid) -> str:
    return grid.crs.to_string() if grid.crs is not None and len(grid.crs.to_string()) < 40 else "the raster's CRS"
