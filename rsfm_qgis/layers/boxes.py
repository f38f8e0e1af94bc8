"""Boxes around objects: outlines in the colours of the classes, with the score beside those that are seen large."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsMapLayer, QgsPalLayerSettings, QgsVectorLayer, QgsVectorLayerSimpleLabeling

from rsfm_qgis import painting
from rsfm_qgis.layer_kind import LayerKind

FIELD, SCORE = "class", 'round("score", 2)'
USUAL_SCALE = 1000


class Boxes(LayerKind):
    order = 10
    is_unfolded = True

    def style(self, layer: QgsMapLayer, style: dict[str, Any]) -> None:
        classes = painting.read_classes(style)
        if classes and layer.fields().indexFromName(FIELD) >= 0:
            painting.paint_polygons(layer, FIELD, classes, 0.0)
        else:
            painting.paint_outlines(layer, painting.CHANGED)
        if layer.fields().indexFromName("score") >= 0:
            _label(layer, float(style.get("label_scale") or USUAL_SCALE))


def _label(layer: QgsVectorLayer, scale: float) -> None:
    """Write the score beside each box, from a scale on."""
    settings = QgsPalLayerSettings()
    settings.fieldName, settings.isExpression = SCORE, True
    settings.scaleVisibility, settings.minimumScale, settings.maximumScale = True, scale, 0
    settings.setFormat(painting.label_format())
    layer.setLabeling(QgsVectorLayerSimpleLabeling(settings))
    layer.setLabelsEnabled(True)
