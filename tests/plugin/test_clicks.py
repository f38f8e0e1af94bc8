"""Clicks on the map with a real backend: marks in a file, a layer that follows them, a slider that repaints it."""

from pathlib import Path

import numpy as np
import pytest
from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsFeature,
    QgsGeometry,
    QgsPointXY,
    QgsProject,
    QgsRasterLayer,
    QgsRectangle,
    QgsVectorLayer,
)
from qgis.gui import QgsMapToolPan
from qgis.PyQt.QtCore import QEvent, QPoint, QPointF, Qt
from qgis.PyQt.QtGui import QMouseEvent
from qgis.PyQt.QtTest import QTest
from qgis.PyQt.QtWidgets import QApplication

from rsfm_qgis import layers, likeness_layers, painting
from rsfm_qgis.click_store import NOTHING
from rsfm_qgis.gui.job_panel import JobPanel
from rsfm_qgis.records import Output
from rsfm_qgis.schema import jobs

SIDE = 60
MINE, HARVEST = (slice(10, 25), slice(10, 30)), (slice(35, 55), slice(30, 55))
THIS = ((12, 15), (20, 20), (22, 27))
NOT_THIS = ((5, 50), (50, 10), (45, 40), (40, 50))


@pytest.fixture
def pair(workspace, make_raster):
    """Two dates as layers: a mine and a stronger harvest are new."""
    random = np.random.default_rng(0)
    before = random.normal(100, 5, (3, SIDE, SIDE))
    after = before + random.normal(0, 3, before.shape)
    after[(slice(None), *MINE)] = random.normal(160, 5, (3, 15, 20))
    after[(0, *HARVEST)] += 90
    found = []
    for name, pixels in (("before", before), ("after", after)):
        layer = QgsRasterLayer(str(make_raster(pixels.astype("float32"), f"{name}.tif")), name)
        workspace.project.addMapLayer(layer)
        found.append(layer)
    return found


@pytest.fixture
def panel(workspace, pair, tmp_path):
    workspace.project.write(str(tmp_path / "project.qgz"))
    workspace.canvas.resize(400, 400)
    workspace.canvas.setDestinationCrs(pair[0].crs())
    workspace.canvas.setExtent(pair[0].extent())
    made = JobPanel(jobs()["refine_change"], workspace)
    made.show()
    made.form.set_values({"before": pair[0].source(), "after": pair[1].source()})
    yield made
    made.deleteLater()


def place(row, column):
    return QgsPointXY(500000 + (column + 0.5) * 10, 5100000 - (row + 0.5) * 10)


def mark(panel, button, places):
    """Press a button of the card, and click places of the raster on the map."""
    if not button.isChecked():
        button.click()
    for each in places:
        panel.card._tool.marked.emit(QgsGeometry.fromPointXY(place(*each)))


def live(panel):
    return likeness_layers.find_live(panel.card.store.group())


def values(layer):
    block = layer.dataProvider().block(1, layer.extent(), layer.width(), layer.height())
    return np.array([[block.value(row, column) for column in range(layer.width())] for row in range(layer.height())])


def settle(panel, wait):
    wait(lambda: not panel.card.refitter.is_busy(), 60)


@pytest.fixture
def clicked(panel, wait):
    """A panel after three and four clicks, and its layer."""
    mark(panel, panel.card.this, THIS)
    mark(panel, panel.card.not_this, NOT_THIS)
    wait(lambda: live(panel) is not None or not panel.card.refitter.is_busy(), 60)
    assert live(panel) is not None, panel.card.status.text()
    settle(panel, wait)
    return panel


def test_layer_follows_the_clicks_and_says_what_is_missing_before(panel, wait):
    card = panel.card
    mark(panel, card.this, THIS[:2])
    assert "1 more of \u201cthis\u201d" in card.status.text()
    assert "3 more of \u201cnot this\u201d" in card.status.text()
    assert card.count.text() == "2 + 0"
    mark(panel, card.this, THIS[2:])
    mark(panel, card.not_this, NOT_THIS[:3])
    assert card.refitter.is_busy()  # it is asked for, not waited for
    wait(lambda: live(panel) is not None or not panel.card.refitter.is_busy(), 60)
    assert live(panel) is not None, panel.card.status.text()
    found = values(live(panel))
    assert found.shape == (SIDE, SIDE)
    assert found[MINE].min() > np.delete(found, np.s_[10:25], axis=0)[:, :10].max()
    assert found[MINE].mean() > 0.9 > 0.1 > found[HARVEST].mean()
    settle(panel, wait)
    assert "Learned in" in card.status.text()
    path = live(panel).source()
    before = values(live(panel))
    mark(panel, card.not_this, NOT_THIS[3:])
    settle(panel, wait)
    assert live(panel).source() != path
    assert not np.array_equal(values(live(panel)), before)
    assert card.count.text() == "3 + 4"


def test_marks_are_in_a_file_at_once_and_found_again_in_the_project(clicked, workspace, pair, tmp_path, wait):
    path = clicked.card.store.path()
    kept = QgsVectorLayer(f"{path}|layername=clicks", "kept", "ogr")
    found = [(feature["kind"], feature.geometry().asPoint()) for feature in kept.getFeatures()]
    assert [kind for kind, _ in found] == ["this"] * 3 + [NOTHING] * 4
    assert found[0][1] == place(*THIS[0])
    assert Path(path).parent.name == "clicks"
    project = workspace.project
    project.write(str(tmp_path / "again.qgz"))
    project.clear()
    assert clicked.card.store.path() is None
    project.read(str(tmp_path / "again.qgz"))
    other = JobPanel(jobs()["refine_change"], workspace)
    other.form.set_values(sources(project))
    assert other.card.count.text() == "3 + 4"
    assert other.card.store.path() == path
    assert likeness_layers.find_live(other.card.store.group()).isValid()
    other.deleteLater()


def sources(project):
    return {name: project.mapLayersByName(name)[0].source() for name in ("before", "after")}


def test_marks_can_be_taken_back_removed_on_the_map_and_edited_in_qgis(clicked, wait):
    card = clicked.card
    card.undo.click()
    assert card.count.text() == "3 + 3"
    mark(clicked, card.this, [(15, 25)])
    assert card.count.text() == "4 + 3"
    card._tool.removed.emit(place(15, 26), 15.0)
    assert card.count.text() == "3 + 3"
    card._tool.removed.emit(place(30, 58), 15.0)
    assert card.count.text() == "3 + 3"
    settle(clicked, wait)
    layer = next(iter(card.store._layers.values()))
    layer.startEditing()
    feature = QgsFeature(layer.fields())
    feature.setGeometry(QgsGeometry.fromPointXY(place(13, 28)))
    feature.setAttribute("kind", "this")
    layer.addFeature(feature)
    layer.commitChanges()
    assert card.count.text() == "4 + 3"


def test_slider_repaints_the_layer_and_keeps_its_place_over_clicks(clicked, wait):
    layer = live(clicked)
    shown = []
    for percent in (2, 10, 40):
        clicked.card.slider.set_percent(percent)
        cut = layer.renderer().shader().rasterShaderFunction().colorRampItemList()[0].value
        shown.append((values(layer) > cut).mean() * 100)
    assert shown == pytest.approx([2, 10, 40], abs=0.6)
    assert clicked.form.values()["show"] == clicked.card.slider.percent()
    mark(clicked, clicked.card.not_this, [(5, 5)])
    settle(clicked, wait)
    assert clicked.card.slider.percent() == pytest.approx(40, rel=0.02)
    cut = live(clicked).renderer().shader().rasterShaderFunction().colorRampItemList()[0].value
    assert (values(live(clicked)) > cut).mean() * 100 == pytest.approx(40, abs=0.6)


def test_several_kinds_have_colours_of_their_own_in_marks_and_layer(clicked, wait):
    card = clicked.card
    card.kind.setCurrentText("harvest")
    mark(clicked, card.this, [(40, 35), (45, 45)])
    assert "1 more of \u201charvest\u201d" in card.status.text()
    mark(clicked, card.this, [(50, 50)])
    settle(clicked, wait)
    found = values(live(clicked))
    assert np.floor(found[MINE]).mean() < 0.1
    assert np.floor(found[HARVEST]).mean() > 0.9
    assert card.store.kinds() == {"this": painting.OKABE_ITO[0], "harvest": painting.OKABE_ITO[1]}
    items = live(clicked).renderer().shader().rasterShaderFunction().colorRampItemList()
    assert [(item.label, item.color.name()) for item in items if item.label] == list(card.store.kinds().items())
    assert card.count.text() == "3 + 3 + 4"


def mouse(view, kind, at, button, held):
    """Send a mouse event to the map: the pointer of a display without hands moves nothing."""
    place = QPointF(at)
    event = QMouseEvent(kind, place, QPointF(view.mapToGlobal(at)), button, held, Qt.KeyboardModifier.NoModifier)
    QApplication.sendEvent(view, event)


def test_mouse_clicks_are_points_and_drags_are_areas(panel, workspace):
    canvas, card = workspace.canvas, panel.card
    canvas.show()
    card.this.click()
    view = canvas.viewport()
    to = canvas.getCoordinateTransform()
    left, none = Qt.MouseButton.LeftButton, Qt.MouseButton.NoButton

    def at(row, column):
        point = to.transform(place(row, column))
        return QPoint(round(point.x()), round(point.y()))

    QTest.mouseClick(view, left, Qt.KeyboardModifier.NoModifier, at(20, 20))
    assert card.store.places() == {"this": 1, NOTHING: 0}
    mouse(view, QEvent.Type.MouseButtonPress, at(12, 12), left, left)
    for corner in ((12, 25), (22, 25), (22, 12)):
        mouse(view, QEvent.Type.MouseMove, at(*corner), none, left)
    mouse(view, QEvent.Type.MouseButtonRelease, at(13, 12), left, none)
    assert card.store.places() == {"this": 4, NOTHING: 0}
    QTest.mouseClick(view, Qt.MouseButton.RightButton, Qt.KeyboardModifier.NoModifier, at(20, 20))
    assert card.store.places() == {"this": 3, NOTHING: 0}


def test_another_tool_ends_the_clicking_and_moving_the_map_moves_the_layer(clicked, workspace, wait):
    pan = QgsMapToolPan(workspace.canvas)
    workspace.canvas.setMapTool(pan)
    assert not clicked.card.this.isChecked()
    assert not clicked.card.not_this.isChecked()
    box = QgsRectangle(500100, 5099600, 500400, 5099900)
    workspace.canvas.setExtent(box)
    wait(lambda: live(clicked).width() < SIDE, 30)
    assert live(clicked).extent().contains(box)


def test_layers_taken_off_the_project_leave_the_file_and_new_clicks_make_another(clicked, workspace):
    path = clicked.card.store.path()
    group = clicked.card.store.group()
    workspace.project.layerTreeRoot().removeChildNode(group)
    workspace.project.removeMapLayers([layer.id() for layer in clicked.card.store._layers.values()])
    assert path.is_file()
    assert clicked.card.count.text() == "0 + 0"
    mark(clicked, clicked.card.this, THIS[:1])
    assert clicked.card.store.path() != path


def test_nothing_can_be_clicked_without_two_rasters(workspace):
    panel = JobPanel(jobs()["refine_change"], workspace)
    panel.show()
    panel.card.this.click()
    assert not panel.card.this.isChecked()
    assert "two rasters" in panel.card.status.text()
    panel.deleteLater()


def test_clicks_in_another_crs_are_kept_in_that_of_the_earlier_raster(panel, workspace):
    workspace.canvas.setDestinationCrs(QgsCoordinateReferenceSystem("EPSG:4326"))
    panel.card.this.click()
    panel.card._tool.marked.emit(QgsGeometry.fromPointXY(QgsPointXY(15.001, 46.04)))
    layer = QgsVectorLayer(f"{panel.card.store.path()}|layername=clicks", "kept", "ogr")
    assert layer.crs().authid() == "EPSG:32633"
    point = next(layer.getFeatures()).geometry().asPoint()
    assert (point.x(), point.y()) == pytest.approx((500077, 5098575), abs=300)


def test_run_on_the_whole_raster_takes_the_marks(clicked, workspace, wait):
    asked = []
    clicked.wants_run.connect(lambda *said: asked.append(said))
    clicked.run_button.click()
    ((job, config, title),) = asked
    assert clicked.run_button.text() == "Run on the Whole Raster"
    done = []
    workspace.runs.start(job, config, title, lambda result, error: done.append((result, error)))
    wait(lambda: done, 30)
    folder = done[0][0]["run"]
    wait(lambda: workspace.runs.get(folder) is not None and not workspace.runs.get(folder).is_live, 90)
    state = workspace.runs.get(folder)
    assert (state.state, state.error) == ("done", "")
    outputs = {output.kind: output for output in state.outputs}
    assert set(outputs) == {"likeness", "change", "change_polygons"}
    whole = layers.make_layer(outputs["likeness"])
    np.testing.assert_array_equal(values(whole), values(live(clicked)))
    QgsProject.instance().addMapLayer(whole)
    assert likeness_layers.repaint(QgsProject.instance(), 20) == 2


def test_likeness_without_a_style_is_cut_in_the_middle(qgis_app, make_raster):
    path = make_raster(np.array([[[0.2, 0.7]]], "float32"))
    layer = layers.make_layer(Output("likeness", str(path), "Like", {}))
    items = layer.renderer().shader().rasterShaderFunction().colorRampItemList()
    assert [item.value for item in items] == [0.5, 1.0]
