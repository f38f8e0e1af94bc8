"""The tiles of a raster after they are classified: a map of one cell a tile, and polygons.

Shape letters: N tiles, R rows and T columns of tiles.
"""

from pathlib import Path
from typing import Any

import numpy as np
import shapely

from rsfm.answers import Answers
from rsfm.errors import UserError
from rsfm.jobs.classify import ClassifyConfig
from rsfm.model_file import Model
from rsfm.outputs.classes import Classes
from rsfm.outputs.confidence import Confidence
from rsfm.raster.grid import Grid
from rsfm.raster.polygons import PolygonWriter
from rsfm.raster.reader import Raster
from rsfm.raster.tile_objects import TileObjects
from rsfm.raster.writer import RasterWriter
from rsfm.runs import Run

CLASSES_FILE, CONFIDENCE_FILE, POLYGONS_FILE = "tiles.tif", "tiles_confidence.tif", "tiles.gpkg"
FEWEST_PIXELS = 2


def choose_side(config: ClassifyConfig, model: Model, grid: Grid) -> int:
    """Return the side of a tile in pixels.

    Raises:
        UserError: no side is said and the model knows none, or a tile would be less than two pixels or the raster.
    """
    learnt = 0.0 if model.card.objects is None else model.card.objects.tile
    if config.tile == 0 and learnt == 0:
        raise UserError(
            "The model did not learn tiles, so their side must be said: give it under 'Side of tiles', or choose "
            "polygons to classify under 'Polygons'.",
            "tile",
        )
    pixels = config.unit == "pixels" and config.tile > 0
    side = round(config.tile) if pixels else round((config.tile or learnt) / grid.gsd)
    if side < FEWEST_PIXELS:
        raise UserError(
            f"A tile of {config.tile or learnt:g} {config.unit if config.tile else 'metres'} is {side} px of "
            f"{grid.gsd:.4g} m; at least {FEWEST_PIXELS} px are needed. Choose a larger one under 'Side of tiles'.",
            "tile",
        )
    return side


def write_tiles(
    tiles: TileObjects,
    side: int,
    raster: Raster,
    answers: Answers,
    model: Model,
    config: ClassifyConfig,
    metadata: dict[str, str],
    run: Run,
) -> dict[str, Any]:
    """Write the map of tiles, its confidence and polygons as asked."""
    grid = raster.grid.shrink(side).crop(tiles.tiles)
    shape = (grid.height, grid.width)
    values = np.array([name.value for name in model.card.classes], np.uint8)
    label_RT = np.where(answers.known_N, values[answers.class_N], Classes.nodata).astype(np.uint8).reshape(shape)
    colours = {name.value: _channels(name.colour) for name in model.card.classes}
    for path, kind, rows_RT, palette in (
        (run.outputs / CLASSES_FILE, Classes, label_RT, colours),
        (run.outputs / CONFIDENCE_FILE, Confidence, answers.confidence_N.reshape(shape), None),
    ):
        with RasterWriter(path, kind, grid, colours=palette, metadata=metadata, check=run.check) as writer:
            writer.write(rows_RT[None])
    classes = [name.model_dump() for name in model.card.classes]
    title = f"Classes of {Path(config.raster).stem}, tiles of {side * raster.grid.gsd:.4g} m"
    run.output("classes", run.outputs / CLASSES_FILE, title, classes=classes)
    run.output("confidence", run.outputs / CONFIDENCE_FILE, "Confidence", minimum=0, maximum=1)
    if config.tile_polygons:
        _write_polygons(tiles, answers, grid, model, config, run)
        named = [{"value": name.name, "name": name.name, "colour": name.colour} for name in model.card.classes]
        run.output("classified", run.outputs / POLYGONS_FILE, "Tiles", field="predicted", classes=named)
    counts = np.bincount(answers.class_N[answers.known_N], minlength=len(model.card.classes))
    return {
        "tiles": {name.name: int(count) for name, count in zip(model.card.classes, counts, strict=True)},
        "without_class": int((tiles.wanted_RT.ravel() & ~answers.known_N).sum()),
        "side_px": side,
        "side_m": round(side * raster.grid.gsd, 3),
    }


def _write_polygons(
    tiles: TileObjects, answers: Answers, grid: Grid, model: Model, config: ClassifyConfig, run: Run
) -> None:
    names = [name.name for name in model.card.classes]
    fields = ["predicted", "confidence", "valid_share"]
    fields += [f"p_{name}" for name in names] if config.probabilities else []
    share_N, confidence_N, class_N = answers.valid_share(tiles.beyond()), answers.confidence_N, answers.class_N
    with PolygonWriter(run.outputs / POLYGONS_FILE, grid, fields) as writer:
        for index in np.flatnonzero(answers.known_N):
            row, column = divmod(int(index), grid.width)
            values = [names[class_N[index]], round(float(confidence_N[index]), 4), round(float(share_N[index]), 4)]
            if config.probabilities:
                values += [round(float(value), 4) for value in answers.probability_NK[index]]
            writer.add(shapely.box(column, row, column + 1, row + 1), *values)


def _channels(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
