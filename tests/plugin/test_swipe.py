"""Two rasters compared by a line on the canvas: what is drawn where, and that nothing stays behind."""

import json
import time

import numpy as np
import pytest
from qgis.core import QgsFeature, QgsGeometry, QgsLayerTreeModel, QgsProject, QgsRasterLayer, QgsVectorLayer
from qgis.gui import QgsMapToolPan, QgsMessageBar
from qgis.PyQt.QtCore import QEvent, QPoint, QPointF, QSize, Qt, QTimer
from qgis.PyQt.QtGui import QMouseEvent
from qgis.PyQt.QtTest import QTest
from qgis.PyQt.QtWidgets import QAction, QApplication
from test_pair_action import Window, select

from rsfm_qgis.gui.dock import Dock
from rsfm_qgis.gui.pair_action import PairAction
from rsfm_qgis.gui.swipe_action import SwipeAction
from rsfm_qgis.gui.swipe_bar import SwipeBar
from rsfm_qgis.gui.swipe_item import SwipeItem
from rsfm_qgis.layers import add_group

WIDE, HIGH = 400, 300
RED, GREEN = (200, 30, 30), (30, 200, 30)


class MapWindow(Window):
    """A window with a canvas whose pan tool can be taken, too."""

    def __init__(self, tree, canvas):
        super().__init__(tree)
        self.canvas, self.pan, self._action = canvas, QgsMapToolPan(canvas), QAction()
        self._action.triggered.connect(lambda: canvas.setMapTool(self.pan))

    def mapCanvas(self):
        return self.canvas

    def actionPan(self):
        return self._action


@pytest.fixture
def layers(workspace, make_raster):
    """An earlier raster all red, a later one all green; neither is drawn on the canvas."""
    found = []
    for name, colour in (("scene_2015", RED), ("scene_2020", GREEN)):
        pixels = np.broadcast_to(np.array(colour, "uint8")[:, None, None], (3, 60, 80)).copy()
        layer = QgsRasterLayer(str(make_raster(pixels, f"{name}.tif")), name)
        layer.renderer().setAlphaBand(-1)
        for stretch in ("setRedContrastEnhancement", "setGreenContrastEnhancement", "setBlueContrastEnhancement"):
            getattr(layer.renderer(), stretch)(None)
        workspace.project.addMapLayer(layer)
        found.append(layer)
    return found


@pytest.fixture
def swipe(workspace, layers, wait):
    """The action in a window, with both rasters selected."""
    canvas, tree = workspace.canvas, workspace.layer_tree
    canvas.resize(QSize(WIDE, HIGH))
    canvas.setDestinationCrs(layers[0].crs())
    canvas.show()
    extent = layers[0].extent()
    extent.scale(0.5)
    canvas.setExtent(extent)
    tree.setModel(QgsLayerTreeModel(workspace.project.layerTreeRoot(), tree))
    window = MapWindow(tree, canvas)
    pair = PairAction(window, lambda *_: None)
    made = SwipeAction(window, pair.pair)
    select(tree, layers)
    yield made
    made.remove()
    pair.remove()
    canvas.hide()


def settle(wait, swipe):
    wait(lambda: not swipe.tool.is_busy(), 20)


def colour_at(canvas, x, y=HIGH // 3):
    shown = canvas.grab().toImage().pixelColor(int(x), int(y))
    return shown.red(), shown.green(), shown.blue()


def items(canvas):
    return [item for item in canvas.scene().items() if isinstance(item, SwipeItem)]


def shown_extent(swipe):
    return swipe.tool.item._drawn[0].settings.visibleExtent()


def move(canvas, x):
    none = Qt.MouseButton.NoButton
    event = QMouseEvent(QEvent.Type.MouseMove, QPointF(x, HIGH / 2), none, none, Qt.KeyboardModifier.NoModifier)
    QApplication.sendEvent(canvas.viewport(), event)


def drag(canvas, start, end):
    viewport, left = canvas.viewport(), Qt.MouseButton.LeftButton
    QTest.mousePress(viewport, left, Qt.KeyboardModifier.NoModifier, QPoint(int(start), HIGH // 2))
    move(canvas, end)
    QTest.mouseRelease(viewport, left, Qt.KeyboardModifier.NoModifier, QPoint(int(end), HIGH // 2))


def test_the_earlier_raster_is_left_of_the_line_and_the_later_one_right_of_it(swipe, workspace, wait):
    canvas = workspace.canvas
    assert swipe.action.isEnabled()
    assert "\u201cscene_2015\u201d, left of a line, and \u201cscene_2020\u201d" in swipe.action.toolTip()
    swipe.action.trigger()
    settle(wait, swipe)
    assert swipe.action.isChecked()
    assert colour_at(canvas, WIDE * 0.4) == RED
    assert colour_at(canvas, WIDE * 0.6) == GREEN
    swipe.tool.item.move_line(WIDE * 0.75)
    assert colour_at(canvas, WIDE * 0.6) == RED
    swipe.tool.item.move_line(-50)
    assert swipe.tool.item.line() == 0
    assert colour_at(canvas, WIDE * 0.4) == GREEN


def test_the_line_follows_the_mouse_while_it_is_pressed(swipe, workspace, wait):
    swipe.action.trigger()
    settle(wait, swipe)
    drag(workspace.canvas, WIDE / 2, WIDE / 4)
    assert swipe.tool.item.line() == pytest.approx(WIDE / 4, abs=2)
    move(workspace.canvas, 300)
    assert swipe.tool.item.line() == pytest.approx(WIDE / 4, abs=2)


def test_the_pictures_follow_pan_and_zoom_and_vectors_are_on_both_sides(swipe, workspace, layers, wait):
    canvas = workspace.canvas
    lake = QgsVectorLayer("Polygon?crs=EPSG:32633", "lake", "memory")
    feature = QgsFeature()
    feature.setGeometry(QgsGeometry.fromRect(layers[0].extent()))
    lake.dataProvider().addFeatures([feature])
    lake.renderer().symbol().setColor(Qt.GlobalColor.blue)
    workspace.project.addMapLayer(lake)
    canvas.setLayers([layers[0]])
    swipe.action.trigger()
    settle(wait, swipe)
    extent = canvas.extent()
    extent.setXMinimum(extent.xMinimum() + extent.width() / 2)  # the right half at twice the size
    canvas.setExtent(extent)
    canvas.refresh()
    before = shown_extent(swipe)
    assert colour_at(canvas, WIDE * 0.1) == RED  # the old picture, moved and scaled, until there is a new one
    wait(lambda: shown_extent(swipe) == canvas.extent() != before, 20)
    settle(wait, swipe)
    canvas.setLayers([lake, layers[0]])
    canvas.refresh()
    wait(lambda: colour_at(canvas, WIDE * 0.4)[2] > 200 and colour_at(canvas, WIDE * 0.6)[2] > 200, 20)


@pytest.mark.parametrize("how", ["escape", "other tool", "layer removed", "project closed", "pressed again"])
def test_it_ends_and_leaves_nothing_behind(how, swipe, workspace, layers, wait):
    canvas = workspace.canvas
    swipe.action.trigger()
    assert items(canvas)
    if how != "project closed":
        settle(wait, swipe)
    if how == "escape":
        QTest.keyClick(canvas, Qt.Key.Key_Escape)
    elif how == "other tool":
        canvas.setMapTool(swipe._iface.pan)
    elif how == "layer removed":
        workspace.project.removeMapLayer(layers[1].id())
    elif how == "project closed":
        workspace.project.clear()
    else:
        swipe.action.trigger()
    assert swipe.tool.item is None
    assert not swipe.action.isChecked()
    wait(lambda: not items(canvas) and canvas.mapTool() is swipe._iface.pan, 5)
    wait(lambda: not swipe.tool._rendering and not any(job.isActive() for job in swipe.tool._kept), 20)
    canvas.refresh()
    if how in {"escape", "other tool", "pressed again"}:
        swipe.action.trigger()
        settle(wait, swipe)
        assert colour_at(canvas, WIDE * 0.4) == RED


def test_a_layer_of_a_run_is_enough_where_the_rasters_it_compared_are_on_the_map(
    swipe, workspace, layers, make_raster, tmp_path
):
    folder = tmp_path / "run"
    folder.mkdir()
    sources = {"before": layers[0].source(), "after": layers[1].source()}
    (folder / "config.json").write_text(json.dumps(sources))
    magnitude = QgsRasterLayer(str(make_raster(np.ones((1, 60, 80), "float32"), "magnitude.tif")), "magnitude")
    workspace.project.addMapLayer(magnitude, False)
    group = add_group(workspace.project, "Detect Change", str(folder))
    group.addLayer(magnitude)
    select(workspace.layer_tree, [magnitude])
    assert swipe.pair() == layers
    assert swipe.action.isEnabled()
    workspace.project.removeMapLayer(layers[0].id())
    select(workspace.layer_tree, [magnitude])
    assert not swipe.action.isEnabled()
    assert "Select two raster layers" in swipe.action.toolTip()


@pytest.fixture
def bar(swipe, workspace, layers, wait):
    """The bar on the page of change, whose form names both rasters; nothing is selected."""
    dock = Dock(workspace, QgsMessageBar(), lambda: None)
    dock.offer_swipe(swipe)
    panel = dock.open_job("detect_change")
    wait(panel.isVisible, 20)
    panel.form.set_values({"before": layers[0].source(), "after": layers[1].source()})
    select(workspace.layer_tree, [])
    yield panel.findChild(SwipeBar)
    dock.deleteLater()


def test_the_page_of_change_compares_what_its_form_names(bar, swipe, workspace, layers, wait):
    canvas = workspace.canvas
    assert not swipe.action.isEnabled()
    bar.button.click()
    settle(wait, swipe)
    assert bar.button.isChecked()
    assert swipe.action.isChecked()
    assert (colour_at(canvas, WIDE * 0.4), colour_at(canvas, WIDE * 0.6)) == (RED, GREEN)
    QTest.keyClick(canvas, Qt.Key.Key_Escape)
    assert not bar.button.isChecked()
    assert swipe.tool.item is None
    bar._form.set_values({"before": layers[1].source(), "after": layers[0].source()})
    bar.button.click()
    settle(wait, swipe)
    assert (colour_at(canvas, WIDE * 0.4), colour_at(canvas, WIDE * 0.6)) == (GREEN, RED)
    bar.button.click()
    assert not items(canvas)
    assert not swipe.action.isChecked()


def test_the_page_says_why_a_file_that_is_no_layer_cannot_be_compared(bar, workspace, make_raster):
    bar._form.set_values({"after": str(make_raster(np.ones((3, 60, 80), "uint8"), "elsewhere.tif"))})
    bar.button.click()
    assert not bar.button.isChecked()
    assert not items(workspace.canvas)
    assert "Only layers of the map can be compared so" in bar.status.text()
    bar._form.set_values({"after": workspace.project.mapLayersByName("scene_2020")[0].source()})
    assert not bar.status.text()


def test_only_forms_that_name_two_dates_have_the_button(swipe, workspace, wait):
    dock = Dock(workspace, QgsMessageBar(), lambda: None)
    found = set()
    for name in ("refine_change", "check_pair", "detect_change", "finetune_change", "change_over_time"):
        panel = dock.open_job(name)
        wait(panel.isVisible, 20)
        if not found:
            dock.offer_swipe(swipe)  # a form that was made before has it, too
        found |= {name} if panel.findChild(SwipeBar) else set()
    assert found == {"check_pair", "detect_change", "refine_change", "finetune_change"}
    dock.deleteLater()


def test_rendering_large_rasters_does_not_hold_the_window(swipe, workspace, make_raster, wait):
    random = np.random.default_rng(0)
    large = []
    for name in ("large_2001", "large_2002"):
        path = make_raster(random.integers(0, 255, (3, 3000, 4000)).astype("uint8"), f"{name}.tif")
        large.append(QgsRasterLayer(str(path), name))
        workspace.project.addMapLayer(large[-1])
    workspace.canvas.setExtent(large[0].extent())
    select(workspace.layer_tree, large)
    beats = [time.perf_counter()]
    clock = QTimer()
    clock.timeout.connect(lambda: beats.append(time.perf_counter()))
    clock.start(1)
    swipe.action.trigger()
    wait(lambda: len(beats) > 2, 5)
    beats[:] = beats[-1:]
    for _ in range(4):  # each one cancels the one before
        workspace.canvas.zoomByFactor(0.9)
        wait(lambda: swipe.tool._rendering or not swipe.tool.is_busy(), 20)
    settle(wait, swipe)
    clock.stop()
    assert len(beats) > 10
    assert max(np.diff(beats)) < 0.25  # 0.05 on a machine of its own


def test_unloading_takes_all_of_it_away(swipe, workspace):
    swipe.action.trigger()
    window = swipe._iface
    assert len(window.menu.actions()) == 2
    swipe.remove()
    assert not items(workspace.canvas)
    assert [action.objectName() for action in window.menu.actions()] == ["rsfm_compare_selected"]
    swipe.remove = lambda: None
    assert QgsProject.instance().mapLayers()
