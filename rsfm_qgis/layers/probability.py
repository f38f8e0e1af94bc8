"""Probabilities of the classes, a band each; every class is a style of the layer, under Styles in its menu."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsMapLayer

from rsfm_qgis import painting
from rsfm_qgis.layer_kind import LayerKind


class Probability(LayerKind):
    order = 35

    def style(self, layer: QgsMapLayer, style: dict[str, Any]) -> None:
        painting.paint_ramp(layer, 0.0, 1.0)
        styles, names = layer.styleManager(), [each.name for each in painting.read_classes(style)]
        for band, name in enumerate(names[: layer.bandCount()], start=1):
            if band == 1:
                styles.renameStyle(styles.currentStyle(), name)
            else:
                styles.addStyleFromLayer(name)
                styles.setCurrentStyle(name)
                painting.paint_ramp(layer, 0.0, 1.0, band)
        if names:
            styles.setCurrentStyle(names[0])

    def is_shown(self, kinds: set[str]) -> bool:
        return "classes" not in kinds
