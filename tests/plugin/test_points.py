"""Places that are clicked on the map, in the CRS of the raster they are looked for in."""

import numpy as np
import pytest
from qgis.core import QgsCoordinateReferenceSystem, QgsPointXY, QgsRasterLayer
from qgis.gui import QgsMapToolPan, QgsVertexMarker

from rsfm_qgis import schema
from rsfm_qgis.gui.editors.points import read_places
from rsfm_qgis.gui.form import Form


@pytest.fixture
def form(workspace, make_raster):
    """The form of a search in a raster in UTM, on a map in degrees."""
    layer = QgsRasterLayer(str(make_raster(np.ones((1, 4, 4), "float32"))), "index")
    workspace.project.addMapLayer(layer)
    workspace.canvas.setDestinationCrs(QgsCoordinateReferenceSystem("EPSG:4326"))
    made = Form(schema.jobs()["find_similar"].fields, workspace)
    made.set_values({"index": layer.source()})
    return made


def markers(workspace):
    return [item for item in workspace.canvas.scene().items() if isinstance(item, QgsVertexMarker)]


def test_clicks_are_written_in_the_crs_of_the_raster_and_shown_while_the_button_is_down(form, workspace):
    editor = form.editor("like")
    assert form.values()["like"] is None
    editor.button.click()
    workspace.canvas.mapTool().canvasClicked.emit(QgsPointXY(15, 46), 1)
    workspace.canvas.mapTool().canvasClicked.emit(QgsPointXY(15.5, 46), 1)
    places = read_places(form.values()["like"])
    assert places[0] == pytest.approx((500000, 5094130), abs=300)
    assert places[1][0] > places[0][0] + 30000
    assert form.values()["unlike"] is None
    shown = markers(workspace)
    assert sorted(round(marker.center().x(), 6) for marker in shown) == [15, 15.5]
    editor.button.click()
    assert not markers(workspace)
    assert workspace.canvas.mapTool() is None


def test_another_tool_ends_the_clicking(form, workspace):
    editor = form.editor("unlike")
    editor.button.click()
    pan = QgsMapToolPan(workspace.canvas)
    workspace.canvas.setMapTool(pan)
    assert not editor.button.isChecked()
    assert workspace.canvas.mapTool() == pan
    assert not markers(workspace)


def test_one_button_is_down_at_a_time(form):
    form.editor("like").button.click()
    form.editor("unlike").button.click()
    assert not form.editor("like").button.isChecked()
    assert form.editor("unlike").button.isChecked()


def test_half_written_places_are_passed_over():
    assert read_places("1,2; 3,; nonsense; 4.5,-6;") == [(1, 2), (4.5, -6)]


def test_points_are_asked_for_where_points_are_meant(form):
    from qgis.core import QgsVectorLayer

    project = form.editor("like_layer").workspace.project
    project.addMapLayers([QgsVectorLayer(f"{kind}?crs=EPSG:4326", kind, "memory") for kind in ("Point", "Polygon")])
    combo = form.editor("like_layer").choice.combo
    assert [combo.itemText(row) for row in range(combo.count())] == ["", "Point"]
