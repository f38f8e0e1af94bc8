"""A slider in the legend of a magnitude: how much of the area is shown, from the cells that differ most."""

from __future__ import annotations

import json

from qgis.core import QgsMapLayer
from qgis.gui import QgsLayerTreeEmbeddedWidgetProvider
from qgis.PyQt.QtCore import QCoreApplication, Qt
from qgis.PyQt.QtWidgets import QHBoxLayout, QLabel, QSlider, QWidget

from rsfm_qgis import painting
from rsfm_qgis.layers.magnitude import SHARES_PROPERTY, SLIDER

SHARE_PROPERTY = "rsfm/share"


class ShareSliderProvider(QgsLayerTreeEmbeddedWidgetProvider):
    """Gives QGIS the slider for the layers that know their shares."""

    def id(self) -> str:
        return SLIDER

    def name(self) -> str:
        return str(QCoreApplication.translate("ShareSlider", "Share of the area that is shown (RSFM)"))

    def supportsLayer(self, layer: QgsMapLayer) -> bool:
        return bool(read_shares(layer))

    def createWidget(self, layer: QgsMapLayer, _index: int) -> ShareSlider:
        return ShareSlider(layer)


class ShareSlider(QWidget):
    """Restyles a magnitude at once: all of it at the right end, less and less towards the left."""

    def __init__(self, layer: QgsMapLayer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._layer, self._shares = layer, read_shares(layer)
        self._high = max((value for _, value in self._shares), default=1.0)
        self.slider, self.label = QSlider(Qt.Orientation.Horizontal, self), QLabel(self)
        self.slider.setRange(0, len(self._shares))
        self.slider.setValue(self._place(float(layer.customProperty(SHARE_PROPERTY, 100) or 100)))
        self.slider.setToolTip(self.tr("Show only the cells that differ most"))
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.slider, 1)
        row.addWidget(self.label)
        self.slider.valueChanged.connect(self._show)
        self._tell(self.slider.value())

    def _place(self, percent: float) -> int:
        return next((place for place, (share, _) in enumerate(self._shares) if share >= percent), len(self._shares))

    def _show(self, place: int) -> None:
        """Show the cells above the magnitude that so many exceed."""
        if place < len(self._shares):
            share, threshold = self._shares[place]
            painting.paint_above(self._layer, threshold, max(self._high, threshold))
        else:
            share = 100.0
            low, high = json.loads(self._layer.customProperty(SHARES_PROPERTY))["range"]
            painting.paint_ramp(self._layer, low, high)
        self._layer.setCustomProperty(SHARE_PROPERTY, share)
        self._tell(place)
        self._layer.triggerRepaint()

    def _tell(self, place: int) -> None:
        words = self.tr("all") if place >= len(self._shares) else self.tr("top %s %%") % f"{self._shares[place][0]:g}"
        self.label.setText(words)


def read_shares(layer: QgsMapLayer) -> list[tuple[float, float]]:
    """Read percent of the area and the magnitude that they exceed; empty for other layers."""
    text = layer.customProperty(SHARES_PROPERTY)
    return [(float(share), float(value)) for share, value in json.loads(text)["shares"]] if text else []
