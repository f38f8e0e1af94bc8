"""The slider of a magnitude in the layer tree: exact shares, live, kept by the project, gone with the plugin."""

import time
import zipfile

import numpy as np
import pytest
from qgis.core import (
    QgsColorRampLegendNode,
    QgsLayerTreeModel,
    QgsProject,
    QgsRasterLayer,
    QgsRasterTransparency,
    QgsSingleBandGrayRenderer,
    QgsSingleBandPseudoColorRenderer,
)
from qgis.gui import QgsGui, QgsLayerTreeView
from qgis.PyQt import sip
from qgis.PyQt.QtCore import QCoreApplication, QEvent
from qgis.PyQt.QtGui import QColor

from rsfm_qgis import layers, magnitude_layers, painting
from rsfm_qgis.gui.share_legend import PROVIDER, ShareLegend, ShareRow
from rsfm_qgis.records import Output
from rsfm_qgis.share_cuts import cuts_of

SLOWEST_SECONDS = 0.05


@pytest.fixture
def values_HW():
    values_HW = np.random.default_rng(3).gamma(2, 3, (120, 100)).astype("float32")
    values_HW[:20] = np.nan
    return values_HW


@pytest.fixture
def style(values_HW):
    valid_N = values_HW[np.isfinite(values_HW)]
    low, high = (float(value) for value in np.percentile(valid_N, [2, 98]))
    return {"minimum": low, "maximum": high, "cuts": cuts_of(valid_N.tolist())}


@pytest.fixture
def tree(project):
    view = QgsLayerTreeView()
    model = QgsLayerTreeModel(project.layerTreeRoot(), view)
    model.setFlag(QgsLayerTreeModel.Flag.UseEmbeddedWidgets)
    view.setModel(model)
    view.resize(300, 500)
    view.show()
    yield view
    sip.delete(view)


@pytest.fixture
def legend(project, tree):
    made = ShareLegend(project, tree)
    yield made
    if QgsGui.layerTreeEmbeddedWidgetRegistry().provider(PROVIDER) is not None:
        made.remove()


@pytest.fixture
def magnitude(project, make_raster, values_HW, style):
    """Return what puts a magnitude and a map of changes on the map."""

    def make(style=style):
        outputs = [
            Output("change", str(make_raster(np.ones((1, 120, 100), "uint8"), "change.tif")), "Change", {}),
            Output("magnitude", str(make_raster(values_HW[None], "magnitude.tif")), "Magnitude", style),
        ]
        group = layers.add_outputs(project, "Run", outputs)
        return next(node.layer() for node in group.findLayers() if node.name() == "Magnitude")

    return make


def rows(tree):
    """The rows that the legend has now."""
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    return [row for row in tree.findChildren(ShareRow) if row.isVisible()]


def alpha(layer):
    block = layer.renderer().block(1, layer.extent(), layer.width(), layer.height())
    return np.array([[block.color(row, column) >> 24 & 255 for column in range(100)] for row in range(120)])


def test_slider_shows_exactly_the_share_of_the_valid_area(legend, tree, magnitude, values_HW):
    layer = magnitude()
    (row,) = rows(tree)
    assert row.slider.percent() == 100
    assert ((alpha(layer) == 255) == np.isfinite(values_HW)).all()
    valid = np.isfinite(values_HW).sum()
    for percent in (0.1, 0.5, 2, 5, 33, 90, 100):
        row.slider.set_percent(percent)
        asked = row.slider.percent()
        shown_HW = alpha(layer) > 0
        assert shown_HW.sum() == pytest.approx(valid * asked / 100, abs=1), asked
        if shown_HW.sum() < valid:
            assert values_HW[shown_HW].min() > np.nanmax(np.where(shown_HW, np.nan, values_HW))


def test_colours_of_what_is_shown_stay_those_of_the_legend(legend, tree, magnitude):
    layer = magnitude()
    before = layer.renderer().block(1, layer.extent(), 100, 120)
    rows(tree)[0].slider.set_percent(20)
    after = layer.renderer().block(1, layer.extent(), 100, 120)
    shown_HW = alpha(layer) > 0
    pairs = [(before.color(*at), after.color(*at)) for at in np.argwhere(shown_HW).tolist()]
    apart = [max(abs((one >> bits & 255) - (other >> bits & 255)) for bits in (0, 8, 16)) for one, other in pairs]
    assert len(pairs) > 1500
    assert max(apart) <= 1


def test_row_stays_while_its_slider_is_dragged_and_a_move_is_fast(legend, tree, magnitude, project):
    magnitude()
    (row,) = rows(tree)
    project.setDirty(False)
    taken = []
    for place in range(0, 200, 5):
        start = time.perf_counter()
        row.slider.slider.setValue(place)
        taken.append(time.perf_counter() - start)
    assert rows(tree) == [row]
    assert max(taken) < SLOWEST_SECONDS
    assert project.isDirty()


def test_hidden_layer_is_shown_by_its_slider_in_place_of_the_map_of_changes(legend, tree, magnitude, project):
    node = project.layerTreeRoot().findLayer(magnitude().id())
    shown = lambda: {each.name(): each.itemVisibilityChecked() for each in node.parent().findLayers()}  # noqa: E731
    assert shown() == {"Change": True, "Magnitude": False}
    rows(tree)[0].slider.set_percent(3)
    assert shown() == {"Change": False, "Magnitude": True}


def test_share_is_there_again_in_a_project_that_is_opened_again(legend, tree, magnitude, project, tmp_path, wait):
    layer = magnitude()
    rows(tree)[0].slider.set_percent(7)
    asked, shown_HW = rows(tree)[0].slider.percent(), alpha(layer) > 0
    path = str(tmp_path / "kept.qgz")
    assert project.write(path)
    project.clear()
    wait(lambda: not rows(tree), 5)
    assert project.read(path)
    (row,) = rows(tree)
    assert row.slider.percent() == asked
    (again,) = project.mapLayersByName("Magnitude")
    assert ((alpha(again) > 0) == shown_HW).all()
    row.slider.set_percent(50)
    assert (alpha(again) > 0).sum() == pytest.approx(5000, abs=15)


def test_saved_project_names_no_widget_of_ours_and_keeps_those_of_others(legend, magnitude, project, tmp_path):
    layer = magnitude()
    layer.setCustomProperty("embeddedWidgets/count", 2)
    layer.setCustomProperty("embeddedWidgets/1/id", "transparency")
    assert project.write(str(tmp_path / "kept.qgz"))
    with zipfile.ZipFile(tmp_path / "kept.qgz") as archive:
        text = archive.read("kept.qgs").decode()
    assert PROVIDER not in text
    other = QgsProject()
    assert other.read(str(tmp_path / "kept.qgz"))
    (bare,) = other.mapLayersByName("Magnitude")
    assert int(bare.customProperty("embeddedWidgets/count")) == 1
    assert bare.customProperty("embeddedWidgets/0/id") == "transparency"
    assert bare.customProperty("embeddedWidgets/1/id") is None
    assert magnitude_layers.read_style(layer)["cuts"]


def test_rows_come_and_go_with_the_plugin(project, tree, magnitude):
    layer = magnitude()
    assert not rows(tree)
    legend = ShareLegend(project, tree)
    assert len(rows(tree)) == 1
    legend.remove()
    assert not rows(tree)
    assert int(layer.customProperty("embeddedWidgets/count")) == 0
    assert QgsGui.layerTreeEmbeddedWidgetRegistry().provider(PROVIDER) is None
    again = ShareLegend(project, tree)
    assert len(rows(tree)) == 1
    again.remove()


def test_layer_that_is_styled_after_it_came_onto_the_map_gets_a_row(legend, tree, project, make_raster, values_HW):
    layer = QgsRasterLayer(str(make_raster(values_HW[None])), "Magnitude")
    project.addMapLayer(layer)
    assert not rows(tree)
    layers.style_layer(layer, Output("magnitude", layer.source(), "Magnitude", {}))
    assert len(rows(tree)) == 1


def test_layer_of_which_nobody_told_the_shares_is_measured(legend, tree, magnitude):
    layer = magnitude({})
    rows(tree)[0].slider.set_percent(10)
    asked = rows(tree)[0].slider.percent()
    assert (alpha(layer) > 0).sum() == pytest.approx(10000 * asked / 100, abs=1)


@pytest.mark.parametrize("renderer", [QgsSingleBandGrayRenderer, QgsSingleBandPseudoColorRenderer])
def test_slider_works_on_a_look_that_the_user_chose_and_keeps_what_is_hidden_there(legend, tree, magnitude, renderer):
    layer = magnitude()
    if renderer is QgsSingleBandGrayRenderer:
        layer.setRenderer(QgsSingleBandGrayRenderer(layer.dataProvider(), 1))
    else:
        painting.paint_ramp(layer, 5, 9)
    nothing = QgsRasterTransparency.TransparentSingleValuePixel()
    nothing.min, nothing.max, nothing.percentTransparent, nothing.opacity = 20.0, 1e9, 100.0, 0.0
    hidden = QgsRasterTransparency()
    hidden.setTransparentSingleValuePixelList([nothing])
    layer.renderer().setRasterTransparency(hidden)
    without = (alpha(layer) > 0).sum()
    row = rows(tree)[-1]
    row.slider.set_percent(10)
    assert (alpha(layer) > 0).sum() == pytest.approx(row.slider.percent() * 100 - (10000 - without), abs=1)
    assert isinstance(layer.renderer(), renderer)
    row.slider.set_percent(100)
    assert (alpha(layer) > 0).sum() == without


def test_legend_shows_the_ramp_after_the_slider_was_moved_and_the_project_opened_again(
    legend, tree, magnitude, project, tmp_path
):
    before = ramp_colour(project, magnitude())
    rows(tree)[0].slider.set_percent(0.5)
    project.write(str(tmp_path / "kept.qgz"))
    project.read(str(tmp_path / "kept.qgz"))
    (again,) = project.mapLayersByName("Magnitude")
    assert ramp_colour(project, again) == before


def ramp_colour(project, layer):
    """The colour in the middle of the ramp in a layer's legend."""
    model = QgsLayerTreeModel(project.layerTreeRoot())
    nodes = model.layerLegendNodes(project.layerTreeRoot().findLayer(layer.id()))
    ramp = next(node.ramp() for node in nodes if isinstance(node, QgsColorRampLegendNode))
    return ramp.color(0.5).name(QColor.NameFormat.HexArgb)
