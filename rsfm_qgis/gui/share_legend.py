"""A slider in the layer tree below each layer of magnitude: how much of the area is shown."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsMapLayer, QgsProject, QgsRasterLayer
from qgis.gui import QgsGui, QgsLayerTreeEmbeddedWidgetProvider, QgsLayerTreeView
from qgis.PyQt.QtCore import QCoreApplication, QObject
from qgis.PyQt.QtWidgets import QHBoxLayout, QLabel, QWidget
from qgis.PyQt.QtXml import QDomDocument, QDomElement

from rsfm_qgis import magnitude_layers
from rsfm_qgis.gui.share_slider import ShareSlider

PROVIDER = "rsfm_share"
COUNT, WIDGET = "embeddedWidgets/count", "embeddedWidgets/{0}/id"
"""Properties of a layer in which QGIS keeps the widgets of its legend."""
CHARACTERS = 26


class ShareRow(QWidget):
    """The row of a layer in the legend."""

    def __init__(self, layer: QgsMapLayer) -> None:
        super().__init__()
        style = magnitude_layers.read_style(layer) or {}
        self._layer_id = layer.id()
        self.slider = ShareSlider(float(style.get("show", magnitude_layers.EVERYTHING)), magnitude_layers.EVERYTHING)
        self.setToolTip(self.tr("Share of the area that is shown: what differs most"))
        self.setMaximumWidth(self.fontMetrics().horizontalAdvance("n") * CHARACTERS)  # a column may be wider than seen
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 4, 0)
        row.addWidget(QLabel(self.tr("Top")))
        row.addWidget(self.slider, 1)
        self.slider.moved.connect(self._show)

    def _show(self, percent: float) -> None:
        project = QgsProject.instance()
        layer = project.mapLayer(self._layer_id)
        if layer is not None:
            magnitude_layers.show_share(project, layer, percent)


class ShareProvider(QgsLayerTreeEmbeddedWidgetProvider):
    """Makes these rows for QGIS."""

    def id(self) -> str:
        return PROVIDER

    def name(self) -> str:
        return str(QCoreApplication.translate("ShareProvider", "Share of area (RSFM)"))

    def supportsLayer(self, layer: QgsMapLayer) -> bool:
        return magnitude_layers.read_style(layer) is not None

    def createWidget(self, layer: QgsMapLayer, _index: int) -> QWidget:
        return ShareRow(layer)


class ShareLegend(QObject):
    """Puts the row into the legends of a project as long as the plugin is on; a file that is saved knows nothing of it.

    A layer that names a widget which no plugin makes would show an empty row.
    """

    def __init__(self, project: QgsProject, tree: QgsLayerTreeView, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._project, self._tree = project, tree
        QgsGui.layerTreeEmbeddedWidgetRegistry().addProvider(ShareProvider())
        project.layersAdded.connect(self._add)
        project.writeMapLayer.connect(self._leave_out)
        self._add(list(project.mapLayers().values()))

    def remove(self) -> None:
        """Take all rows away."""
        self._project.layersAdded.disconnect(self._add)
        self._project.writeMapLayer.disconnect(self._leave_out)
        for layer in self._project.mapLayers().values():
            if isinstance(layer, QgsRasterLayer):
                layer.customPropertyChanged.disconnect(self._look_again)
            if PROVIDER in _widgets(layer):
                _set_widgets(layer, [each for each in _widgets(layer) if each != PROVIDER])
                self._refresh(layer)
        QgsGui.layerTreeEmbeddedWidgetRegistry().removeProvider(PROVIDER)

    def _add(self, layers: list[QgsMapLayer]) -> None:
        for layer in layers:
            if isinstance(layer, QgsRasterLayer):
                layer.customPropertyChanged.connect(self._look_again)  # the toolbox styles a layer that is there
        self._embed(layers)

    def _look_again(self, name: str) -> None:
        if name == magnitude_layers.STYLE_PROPERTY:
            self._embed(list(self._project.mapLayers().values()))

    def _embed(self, layers: list[QgsMapLayer]) -> None:
        for layer in layers:
            if magnitude_layers.read_style(layer) is not None and PROVIDER not in _widgets(layer):
                _set_widgets(layer, [*_widgets(layer), PROVIDER])
                self._refresh(layer)

    def _refresh(self, layer: QgsMapLayer) -> None:
        model = self._tree.layerTreeModel()
        node = self._project.layerTreeRoot().findLayer(layer.id())
        if model is not None and node is not None:
            model.refreshLayerLegend(node)

    def _leave_out(self, layer: QgsMapLayer, element: QDomElement, _document: QDomDocument) -> None:
        """Take the row out of what is about to be written of a layer."""
        if PROVIDER not in _widgets(layer):
            return
        properties = element.firstChildElement("customproperties")
        options = properties.elementsByTagName("Option")
        found = [options.at(place).toElement() for place in range(options.count())]
        named = {each.attribute("name"): each for each in found}
        kept = [each for each in _widgets(layer) if each != PROVIDER]
        named[COUNT].setAttribute("value", str(len(kept)))
        for place in range(len(kept) + 1):
            widget = named[WIDGET.format(place)]
            if place < len(kept):
                widget.setAttribute("value", kept[place])
            else:
                widget.parentNode().removeChild(widget)


def _widgets(layer: QgsMapLayer) -> list[str]:
    """Return the widgets in a layer's legend."""
    count = int(layer.customProperty(COUNT, 0) or 0)
    return [str(layer.customProperty(WIDGET.format(place), "")) for place in range(count)]


def _set_widgets(layer: QgsMapLayer, widgets: list[str]) -> None:
    properties: dict[str, Any] = {WIDGET.format(place): name for place, name in enumerate(widgets)}
    for place in range(len(widgets), len(_widgets(layer))):
        layer.removeCustomProperty(WIDGET.format(place))
    for name, value in {COUNT: len(widgets), **properties}.items():
        layer.setCustomProperty(name, value)
