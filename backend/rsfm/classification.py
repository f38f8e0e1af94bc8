"""Gives polygons or tiles a class each.

Shape letters: N objects, K classes, J objects of a batch, R rows and T columns of tiles.
"""

import json
from typing import Any

from rsfm import model_file
from rsfm.answers import Answers, no_answers
from rsfm.classified_layer import Layer, findings, read_layer, write_layer
from rsfm.classified_tiles import choose_side, write_tiles
from rsfm.devices import choose_device
from rsfm.jobs.classify import ClassifyConfig
from rsfm.mapping import provenance
from rsfm.model_file import Model
from rsfm.object_pooling import RECORD, Results, pool
from rsfm.pooled_network import read_model
from rsfm.raster.area import Area, read_area
from rsfm.raster.outline_pixels import OutlinePixels
from rsfm.raster.pooled_object import Objects
from rsfm.raster.pooling import Pooled
from rsfm.raster.reader import Raster, check_has_valid_pixels
from rsfm.raster.tile_objects import TileObjects
from rsfm.runs import Run
from rsfm.training.finetuning import open_for
from rsfm.unfinished import Unfinished


def classify(config: ClassifyConfig, run: Run) -> dict[str, Any]:
    """Classify the polygons of a layer, or tiles, and write them."""
    device = choose_device(config.device, run)
    model = model_file.load(config.model)
    with open_for(model, config.raster) as raster:
        area = read_area(raster.grid, config.area)
        check_has_valid_pixels(raster)
        with_area = None if config.area is None else area
        if config.polygons is not None:
            return _classify_layer(read_layer(config.polygons, raster, with_area), raster, model, config, device, run)
        return _classify_tiles(raster, area, model, config, device, run)


def _classify_layer(
    layer: Layer, raster: Raster, model: Model, config: ClassifyConfig, device: str, run: Run
) -> dict[str, Any]:
    for note in findings(layer):
        run.warning(note)
    objects = OutlinePixels(layer.outlines.shape_N, raster.grid)
    answers = answer(objects, raster, model, config, device, layer.identity, run)
    return write_layer(layer, answers, model, config, run)


def _classify_tiles(
    raster: Raster, area: Area, model: Model, config: ClassifyConfig, device: str, run: Run
) -> dict[str, Any]:
    side = choose_side(config, model, raster.grid)
    objects = TileObjects(raster.grid, side, area)
    answers = answer(objects, raster, model, config, device, "", run)
    metadata = provenance(model, raster, config.model_dump_json(), device)
    return write_tiles(objects, side, raster, answers, model, config, metadata, run)


def answer(
    objects: Objects, raster: Raster, model: Model, config: ClassifyConfig, device: str, identity: str, run: Run
) -> Answers:
    """Ask a model for each object, going on where an earlier start ended.

    Args:
        identity: names the layer as it is now.
    """
    reading = read_model(model, config.vote == "majority")
    answers = no_answers(len(objects.end_N), len(model.card.classes))
    described = json.dumps({**config.model_dump(mode="json"), "layer_identity": identity})
    with Unfinished(run, raster, config.model, described) as unfinished:
        results = Results(unfinished.folder / RECORD, **answers._asdict())

        def done(pooled: Pooled) -> None:
            answers.probability_NK[pooled.object_J] = reading.probabilities(pooled)
            answers.pixels_N[pooled.object_J] = pooled.pixels_J
            answers.valid_N[pooled.object_J] = pooled.valid_J

        pool(reading.network, reading.values, raster, objects, config.tiling, device, unfinished, results, done, run)
    return answers
