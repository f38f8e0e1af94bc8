"""The slider in the legend of a magnitude: what it shows is the share that it says."""

import numpy as np
import pytest
from qgis.core import QgsLayerTreeModel, QgsProject
from qgis.gui import QgsGui

from rsfm_qgis import layers
from rsfm_qgis.gui.share_slider import ShareSlider, ShareSliderProvider, read_shares
from rsfm_qgis.layers.magnitude import SLIDER
from rsfm_qgis.records import Output

PERCENTS = (1, 5, 25, 50)


@pytest.fixture
def layer(qgis_app, make_raster):
    values = np.random.default_rng(0).gamma(2.0, 2.0, (1, 60, 60)).astype("float32")
    values[0, 0, 0] = 1e6  # far beyond the range that is coloured
    shares = [[percent, float(np.percentile(values, 100 - percent))] for percent in PERCENTS]
    low, high = (float(value) for value in np.percentile(values, [2, 98]))
    style = {"minimum": low, "maximum": high, "threshold": None, "shares": shares}
    return layers.make_layer(Output("magnitude", str(make_raster(values)), "Magnitude", style))


def shown(layer):
    """Return the share of the cells that are drawn."""
    block = layer.renderer().block(1, layer.extent(), layer.width(), layer.height())
    alphas = [block.color(row, column) >> 24 & 255 for row in range(60) for column in range(60)]
    return np.mean(np.array(alphas) > 0)


def test_the_slider_shows_the_share_that_it_says(layer):
    slider = ShareSlider(layer)
    assert slider.label.text() == "all"
    assert shown(layer) == 1
    for place, percent in enumerate(PERCENTS):
        slider.slider.setValue(place)
        assert slider.label.text() == f"top {percent:g} %"
        assert shown(layer) == pytest.approx(percent / 100, abs=0.002)
    slider.slider.setValue(len(PERCENTS))
    assert shown(layer) == 1


def test_the_slider_is_where_it_was_when_the_legend_is_built_anew(layer):
    ShareSlider(layer).slider.setValue(1)
    assert ShareSlider(layer).slider.value() == 1
    assert shown(layer) == pytest.approx(0.05, abs=0.002)


def test_the_legend_of_a_magnitude_has_the_slider_and_other_layers_have_none(layer, make_raster):
    provider = ShareSliderProvider()
    assert provider.supportsLayer(layer)
    assert layer.customProperty("embeddedWidgets/0/id") == SLIDER == provider.id()
    plain = layers.make_layer(Output("magnitude", str(make_raster(np.ones((1, 2, 2), "float32"))), "Plain", {}))
    assert not provider.supportsLayer(plain)
    assert read_shares(plain) == []
    assert QgsGui.layerTreeEmbeddedWidgetRegistry().addProvider(provider)
    try:
        QgsProject.instance().addMapLayer(layer)
        node = QgsProject.instance().layerTreeRoot().findLayer(layer.id())
        counts = []
        for wanted in (False, True):
            model = QgsLayerTreeModel(QgsProject.instance().layerTreeRoot())
            model.setFlag(QgsLayerTreeModel.Flag.UseEmbeddedWidgets, wanted)
            model.refreshLayerLegend(node)
            counts.append(len(model.layerLegendNodes(node)))
        assert counts[1] == counts[0] + 1
    finally:
        QgsGui.layerTreeEmbeddedWidgetRegistry().removeProvider(provider.id())
        QgsProject.instance().clear()
