"""What the encoder sees while it learns, on the canvas: it appears, is refreshed, follows the canvas, and stays."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import ORIGIN, PIXEL
from qgis.core import QgsCoordinateReferenceSystem, QgsRectangle
from qgis.gui import QgsMessageBar

from rsfm_qgis import layers, looks, preview_layers, settings
from rsfm_qgis.gui.results import Results

SIDE = 512


@pytest.fixture
def raster(make_raster):
    noise = np.random.default_rng(0).integers(100, 3000, (3, SIDE // 8, SIDE // 8)).astype("uint16")
    return make_raster(np.kron(noise, np.ones((8, 8), "uint16")), "raster.tif")


def show(canvas, row, column):
    """Look at 200 x 200 pixels from a corner on."""
    west, north = ORIGIN[0] + column * PIXEL, ORIGIN[1] - row * PIXEL
    canvas.setExtent(QgsRectangle(west, north - 200 * PIXEL, west + 200 * PIXEL, north))


def start(workspace, raster, wait, **config):
    results, answers = Results(workspace, QgsMessageBar()), []
    values = {
        "rasters": [str(raster)],
        "device": "cpu",
        "encoder": {"name": "conv_small", "width": 32},
        "training": {"minutes": 0.2, "batch_size": 16},
        **config,
    }
    look = looks.look(workspace)
    workspace.runs.start("pretrain", values, "Learn", lambda *answer: answers.append(answer), look)
    wait(lambda: answers)
    assert answers[0][1] is None, answers
    results.expect(answers[0][0]["run"])
    return answers[0][0]["run"], results


def seen(project):
    return [layer for layer in project.mapLayers().values() if "What the encoder sees" in layer.name()]


def test_the_map_is_refreshed_follows_the_canvas_and_the_first_and_the_last_one_stay(workspace, raster, wait):
    canvas = workspace.canvas
    canvas.setDestinationCrs(QgsCoordinateReferenceSystem("EPSG:32633"))
    show(canvas, 0, 0)
    folder, results = start(workspace, raster, wait)
    wait(lambda: seen(workspace.project), 60)
    (layer,) = seen(workspace.project)
    assert layer.isValid()
    assert layer.name() == "What the encoder sees, step 1"
    assert layer.extent().yMaximum() == pytest.approx(ORIGIN[1], abs=60)
    show(canvas, 300, 300)
    wait(lambda: json.loads((Path(folder) / "look.json").read_text())["bounds"][0] > ORIGIN[0] + 2000)
    wait(lambda: not workspace.runs.get(folder).is_live, 60)
    assert workspace.runs.get(folder).state == "done", workspace.runs.get(folder).error
    wait(lambda: len(seen(workspace.project)) == 2 and not preview_layers.find(workspace.project, folder))
    group = layers.find_group(workspace.project, folder)
    last, first = [node.layer() for node in group.findLayers()]
    assert first.name() == "What the encoder sees, step 1"
    assert last.extent().yMaximum() < ORIGIN[1] - 250 * PIXEL
    assert results is not None


def test_nobody_looks_where_previews_are_not_wanted(workspace):
    show(workspace.canvas, 0, 0)
    assert looks.look(workspace) is not None
    settings.write(settings.PREVIEWS, "no")
    try:
        assert looks.look(workspace) is None
    finally:
        settings.write(settings.PREVIEWS, "")


def test_a_run_that_nobody_looked_at_is_not_told_of_the_canvas(workspace, tmp_path):
    show(workspace.canvas, 0, 0)
    looks.keep(str(tmp_path), workspace)
    assert not list(tmp_path.iterdir())
