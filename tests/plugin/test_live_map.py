"""The map that follows the labels, and where to label next, in a real QGIS with the real backend."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import ORIGIN, PIXEL
from qgis.core import (
    QgsCategorizedSymbolRenderer,
    QgsCoordinateReferenceSystem,
    QgsFeature,
    QgsFillSymbol,
    QgsGeometry,
    QgsRasterLayer,
    QgsRectangle,
    QgsRendererCategory,
    QgsVectorLayer,
)
from qgis.gui import QgsMessageBar
from qgis.PyQt import sip
from qgis.PyQt.QtGui import QColor
from test_layers import pixels

from rsfm_qgis import layers, preview_layers
from rsfm_qgis.gui.job_panel import JobPanel
from rsfm_qgis.gui.labelling_bar import LabellingBar
from rsfm_qgis.gui.results import Results
from rsfm_qgis.label_copy import write_copy
from rsfm_qgis.schema import jobs

SIDE, SQUARE = 600, 100
COLOURS = {"bare": "#aa3300", "field": "#22bb44", "water": "#1133cc"}


@pytest.fixture
def truth():
    count = SIDE // SQUARE
    small = (np.arange(count)[:, None] + np.arange(count)[None]) % 3
    return np.kron(small, np.ones((SQUARE, SQUARE), int))


@pytest.fixture
def raster(make_raster, project, truth):
    random = np.random.default_rng(0)
    level = np.array([[900, 700, 400], [1200, 700, 900], [700, 1100, 400]])
    pixels_HWC = level[truth] + random.normal(0, 90, (SIDE, SIDE, 3))
    path = make_raster(np.moveaxis(pixels_HWC, -1, 0).clip(1, 60000).astype("uint16"), "scene.tif")
    layer = QgsRasterLayer(str(path), "scene")
    project.addMapLayer(layer)
    return layer


@pytest.fixture
def labels(project):
    """Labels in memory, empty, in their colours."""
    layer = QgsVectorLayer("Polygon?crs=EPSG:32633&field=class:string", "training areas", "memory")
    categories = []
    for name, colour in COLOURS.items():
        symbol = QgsFillSymbol.createSimple({"color": colour})
        categories.append(QgsRendererCategory(name, symbol, name))
    layer.setRenderer(QgsCategorizedSymbolRenderer("class", categories))
    project.addMapLayer(layer)
    layer.startEditing()
    yield layer
    if not sip.isdeleted(layer):
        layer.rollBack()


def draw(layer, row, column, side, name):
    """Draw a square, as far as the edit buffer."""
    west, north = ORIGIN[0] + column * PIXEL, ORIGIN[1] - row * PIXEL
    feature = QgsFeature(layer.fields())
    feature.setAttribute("class", name)
    rectangle = QgsRectangle(west, north - side * PIXEL, west + side * PIXEL, north)
    feature.setGeometry(QgsGeometry.fromRect(rectangle))
    assert layer.addFeature(feature)
    return feature.id()


def look(canvas, row, column, side):
    west, north = ORIGIN[0] + column * PIXEL, ORIGIN[1] - row * PIXEL
    canvas.setExtent(QgsRectangle(west, north - side * PIXEL, west + side * PIXEL, north))


@pytest.fixture
def bar(workspace, raster, labels):
    workspace.canvas.resize(400, 400)
    workspace.canvas.setDestinationCrs(QgsCoordinateReferenceSystem("EPSG:32633"))
    look(workspace.canvas, 0, 0, 300)
    results = Results(workspace, QgsMessageBar())
    panel = JobPanel(jobs()["finetune"], workspace)
    panel.form.set_values({"raster": raster.source(), "class_field": "class"})
    panel.form.editor("labels").choice.combo.setLayer(labels)
    made = LabellingBar(panel, workspace, results)
    made.panel, made.results = panel, results
    yield made
    made.live.close()
    panel.deleteLater()


def shown(bar):
    """Return the layer of the map; None where there is none."""
    nodes = preview_layers.find(bar.live._workspace.project, bar.live.folder) if bar.live.folder else []
    return nodes[0].layer() if nodes else None


def is_settled(bar, wait, sentence):
    wait(lambda: sentence in bar.status.text(), 60)
    layer = shown
    wait(lambda: layer(bar) is not None and layer(bar).isValid(), 30)
    return layer(bar)


def test_map_follows_edits_undo_moves_and_the_switch(bar, labels, truth, wait, workspace):
    draw(labels, 20, 20, 12, "bare")
    bar.switch.setChecked(True)
    wait(lambda: "one class so far" in bar.status.text(), 60)
    assert shown(bar) is None
    draw(labels, 20, 120, 12, "field")
    layer = is_settled(bar, wait, "2 classes, 2 polygons")
    draw(labels, 20, 220, 12, "water")
    layer = is_settled(bar, wait, "3 classes, 3 polygons")
    wait(lambda: len(layer.renderer().classes()) == 3)
    colours = {entry.label: entry.color.name() for entry in layer.renderer().classes()}
    assert colours == COLOURS
    layer.setOpacity(1)
    picture = pixels(layer)[:300, :300, :3]
    wanted = np.array([QColor(colour).getRgb()[:3] for colour in COLOURS.values()])
    assert (picture == wanted[truth[:300, :300]]).all(axis=2).mean() > 0.9
    labels.undoStack().undo()
    is_settled(bar, wait, "2 classes, 2 polygons")
    look(workspace.canvas, 300, 300, 200)
    wait(lambda: shown(bar).extent().xMinimum() > ORIGIN[0] + 50 * PIXEL, 30)
    assert shown(bar).extent().contains(workspace.canvas.extent().center())
    root = workspace.project.layerTreeRoot()
    order = [node.layerId() for node in root.findLayers()]
    assert order.index(labels.id()) < order.index(shown(bar).id())
    folder = Path(bar.live.folder)
    bar.switch.setChecked(False)
    wait(lambda: not folder.exists(), 30)
    assert layers.find_group(workspace.project, str(folder)) is None
    assert not list((folder.parent.parent / "labels").rglob("*.geojson"))
    wait(lambda: workspace.runs.get(str(folder)) is None)


def test_opacity_that_the_user_chose_stays(bar, labels, wait):
    for column, name in enumerate(COLOURS):
        draw(labels, 20, 20 + 100 * column, 12, name)
    bar.switch.setChecked(True)
    layer = is_settled(bar, wait, "3 polygons")
    assert layer.opacity() == pytest.approx(0.55)
    layer.setOpacity(0.3)
    draw(labels, 50, 50, 5, "bare")
    is_settled(bar, wait, "4 polygons")
    assert shown(bar).opacity() == pytest.approx(0.3)


def test_run_that_is_stopped_in_the_list_switches_the_map_off(bar, labels, wait, workspace):
    for column, name in enumerate(COLOURS):
        draw(labels, 20, 20 + 100 * column, 12, name)
    bar.switch.setChecked(True)
    is_settled(bar, wait, "3 polygons")
    workspace.runs.stop(bar.live.folder)
    wait(lambda: not bar.switch.isChecked(), 30)
    assert not bar.live.is_on()


def test_labels_that_are_taken_off_the_project_switch_the_map_off(bar, labels, wait, workspace):
    for column, name in enumerate(COLOURS):
        draw(labels, 20, 20 + 100 * column, 12, name)
    bar.switch.setChecked(True)
    is_settled(bar, wait, "3 polygons")
    folder = Path(bar.live.folder)
    workspace.project.removeMapLayer(labels.id())
    wait(lambda: not bar.switch.isChecked(), 30)
    wait(lambda: not folder.exists(), 30)
    assert not bar.live.is_on()
    assert bar.live.folder == ""


def test_without_labels_the_place_is_marked_and_the_switch_stays_off(bar, labels, workspace):
    workspace.project.removeMapLayer(labels.id())
    bar.switch.setChecked(True)
    assert not bar.switch.isChecked()
    assert "polygon layer" in bar.panel.form.first_mark().text()


def test_another_raster_starts_anew(bar, labels, raster, wait, workspace, make_raster):
    for column, name in enumerate(COLOURS):
        draw(labels, 20, 20 + 100 * column, 12, name)
    bar.switch.setChecked(True)
    is_settled(bar, wait, "3 polygons")
    first = bar.live.folder
    other = make_raster(np.random.default_rng(0).integers(1, 3000, (2, 300, 300)).astype("uint16"), "other.tif")
    bar.panel.form.set_values({"raster": str(other)})
    wait(lambda: bar.live.folder not in {"", first}, 30)
    config = json.loads((Path(bar.live.folder) / "config.json").read_text())
    assert config["raster"] == str(other)
    wait(lambda: not Path(first).exists(), 30)


def test_ten_numbered_spots_come_onto_the_map_and_give_way_to_the_next_ten(bar, labels, wait, workspace):
    for column, name in enumerate(COLOURS):
        draw(labels, 20, 20 + 100 * column, 12, name)
    found = []
    for row in (60, 80):
        bar.next.click()
        assert not bar.next.isEnabled()
        wait(bar.next.isEnabled, 60)
        wait(lambda: any(layer.name() == "Where to label next" for layer in workspace.project.mapLayers().values()), 30)
        wait(lambda: spots(workspace).id() not in found if spots(workspace) else False, 30)
        found.append(spots(workspace).id())
        draw(labels, row, 30, 6, "bare")
    layer = spots(workspace)
    assert sum(each.name() == "Where to label next" for each in workspace.project.mapLayers().values()) == 1
    assert sorted(feature["number"] for feature in layer.getFeatures()) == list(range(1, 11))
    seen = workspace.canvas.extent().buffered(PIXEL)
    assert all(seen.contains(feature.geometry().asPoint()) for feature in layer.getFeatures())
    assert layer.labelsEnabled()
    assert layer.labeling().settings().fieldName == "number"


def spots(workspace):
    found = [layer for layer in workspace.project.mapLayers().values() if layer.name() == "Where to label next"]
    return found[-1] if found else None


def test_copy_holds_edits_classes_and_colours_of_the_style(labels, tmp_path):
    draw(labels, 20, 20, 12, "bare")
    draw(labels, 20, 120, 12, "unknown to the style")
    draw(labels, 20, 220, 12, None)
    path = tmp_path / "copy.geojson"
    for _ in write_copy(labels, "class", path):
        pass
    whole = json.loads(path.read_text())
    assert whole["crs"]["properties"]["name"] == "EPSG:32633"
    said = [feature["properties"] for feature in whole["features"]]
    assert said == [
        {"class": "bare", "color": COLOURS["bare"]},
        {"class": "unknown to the style", "color": None},
        {"class": None},
    ]
    assert not list(tmp_path.glob(".*"))


def test_one_colour_for_all_classes_is_no_colour(project, tmp_path):
    layer = QgsVectorLayer("Polygon?crs=EPSG:32633&field=class:integer", "labels", "memory")
    layer.startEditing()
    draw(layer, 20, 20, 12, 1)
    draw(layer, 20, 60, 12, 2)
    for _ in write_copy(layer, "class", tmp_path / "copy.geojson"):
        pass
    said = [feature["properties"] for feature in json.loads((tmp_path / "copy.geojson").read_text())["features"]]
    assert said == [{"class": 1, "color": None}, {"class": 2, "color": None}]
    layer.rollBack()
