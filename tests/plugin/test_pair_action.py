"""Two selected rasters, one button: from the layer tree to styled polygons, with a real backend."""

import numpy as np
import pytest
from qgis.core import QgsDateTimeRange, QgsLayerTreeModel, QgsRasterLayer, QgsVectorLayer
from qgis.gui import QgsMessageBar
from qgis.PyQt.QtCore import QDateTime, QItemSelectionModel, Qt
from qgis.PyQt.QtWidgets import QMenu, QToolBar

from rsfm_qgis.gui.dock import Dock
from rsfm_qgis.gui.pair_action import PairAction, date_of, in_time

SIDE = 100


class Window:
    """The part of QGIS's window that the action is put into: a real toolbar, a real menu, a real layer tree."""

    def __init__(self, tree):
        self.tree, self.bar, self.menu = tree, QToolBar(), QMenu()

    def layerTreeView(self):
        return self.tree

    def addToolBarIcon(self, action):
        self.bar.addAction(action)

    def removeToolBarIcon(self, action):
        self.bar.removeAction(action)

    def addCustomActionForLayerType(self, action, _menu, _type, _all):
        self.menu.addAction(action)

    def removeCustomActionForLayerType(self, action):
        self.menu.removeAction(action)


@pytest.fixture
def window(workspace):
    tree = workspace.layer_tree
    tree.setModel(QgsLayerTreeModel(workspace.project.layerTreeRoot(), tree))
    return Window(tree)


@pytest.fixture
def pair(workspace, make_raster):
    """The later date is the first layer of the tree."""
    random = np.random.default_rng(0)
    before = random.normal(100, 20, (3, SIDE, SIDE))
    after = before + random.normal(0, 2, before.shape)
    after[:, 20:45, 30:70] = 240 - after[:, 20:45, 30:70]
    found = []
    for name, pixels in (("scene_20150711", before), ("scene_20160801", after)):
        layer = QgsRasterLayer(str(make_raster(pixels.astype("float32"), f"{name}.tif")), name)
        workspace.project.addMapLayer(layer)
        found.append(layer)
    return found


def select(tree, layers):
    tree.selectionModel().clearSelection()
    for layer in layers:
        index = tree.node2index(tree.layerTreeModel().rootGroup().findLayer(layer.id()))
        tree.selectionModel().select(index, QItemSelectionModel.SelectionFlag.Select)


def test_two_selected_rasters_become_polygons_on_the_map(window, pair, workspace, wait):
    dock = Dock(workspace, QgsMessageBar(), lambda: None)
    dock.show()
    made = PairAction(window, dock.compare)
    action = window.menu.actions()[0]
    assert not action.isEnabled()
    select(window.tree, reversed(pair))
    assert action.isEnabled()
    assert "\u201cscene_20150711\u201d to \u201cscene_20160801\u201d" in action.toolTip()
    action.trigger()

    def polygons():
        shown = [layer for layer in workspace.project.mapLayers().values() if isinstance(layer, QgsVectorLayer)]
        return next((layer for layer in shown if layer.featureCount() > 0), None)

    wait(lambda: polygons() is not None, 120)
    assert polygons().renderer().symbol().symbolLayer(0).strokeColor().name() == "#cc79a7"
    config = dock.panels["detect_change"].form.values()
    assert (config["before"], config["after"]) == tuple(layer.source() for layer in pair)
    made.remove()
    assert not window.menu.actions()
    assert not window.bar.actions()
    wait(lambda: all(not run.is_live for run in workspace.runs.all()), 60)
    dock.deleteLater()


def test_anything_but_two_rasters_cannot_be_compared(window, pair, workspace):
    asked = []
    made = PairAction(window, lambda *sources: asked.append(sources))
    points = QgsVectorLayer("Point?crs=EPSG:4326", "points", "memory")
    workspace.project.addMapLayer(points)
    for chosen in ([], pair[:1], [*pair, points], [pair[0], points]):
        select(window.tree, chosen)
        assert not made.action.isEnabled()
    made.action.trigger()
    assert not asked
    select(window.tree, pair)
    made.action.trigger()
    assert asked == [tuple(layer.source() for layer in pair)]
    made.remove()


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (("scene_2020-08-31", "scene_20090818"), (1, 0)),
        (("b 1999", "a 2003"), (0, 1)),
        (("S2_20150711", "no date"), (0, 1)),
        (("tile_201512", "tile_201407"), (1, 0)),
        (("after", "before"), (0, 1)),
    ],
)
def test_layers_are_put_in_time_by_their_names(qgis_app, make_raster, names, order):
    found = [QgsRasterLayer(str(make_raster(np.ones((1, 4, 4), "uint8"), "raster.tif")), name) for name in names]
    assert in_time(found) == [found[place] for place in order]


def test_time_that_qgis_knows_counts_more_than_a_name(qgis_app, make_raster):
    layer = QgsRasterLayer(str(make_raster(np.ones((1, 4, 4), "uint8"), "raster.tif")), "scene_20200101")
    day = QDateTime.fromString("1995-05-01T00:00:00", Qt.DateFormat.ISODate)
    layer.temporalProperties().setFixedTemporalRange(QgsDateTimeRange(day, day.addDays(1)))
    layer.temporalProperties().setIsActive(True)
    assert date_of(layer).startswith("1995-05-01")
