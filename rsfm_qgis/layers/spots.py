"""Places to label next: numbered rings."""

from __future__ import annotations

from typing import Any

from qgis.core import (
    QgsMapLayer,
    QgsMarkerSymbol,
    QgsPalLayerSettings,
    QgsSingleSymbolRenderer,
    QgsVectorLayerSimpleLabeling,
)

from rsfm_qgis import painting
from rsfm_qgis.layer_kind import LayerKind

NUMBER = "number"
LETTERS = 11


class Spots(LayerKind):
    order = 5
    is_unfolded = False

    def style(self, layer: QgsMapLayer, style: dict[str, Any]) -> None:
        ring = {
            "name": "circle",
            "size": "4.5",
            "color": "255,255,255,60",
            "outline_color": painting.CHANGED,
            "outline_width": "0.7",
        }
        layer.setRenderer(QgsSingleSymbolRenderer(QgsMarkerSymbol.createSimple(ring)))
        settings = QgsPalLayerSettings()
        settings.fieldName = NUMBER
        letters = painting.label_format()
        letters.setSize(LETTERS)
        settings.setFormat(letters)
        settings.dist = 2.5
        settings.displayAll = True
        layer.setLabeling(QgsVectorLayerSimpleLabeling(settings))
        layer.setLabelsEnabled(True)
        layer.setMapTipTemplate('[% "class" %] / [% "second" %]')
