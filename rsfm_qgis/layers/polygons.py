"""Polygons of a segmentation, in the colours of the classes; the raster tells the same, so they start hidden."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsMapLayer

from rsfm_qgis import painting
from rsfm_qgis.layer_kind import LayerKind

FIELD = "class"


class Polygons(LayerKind):
    order = 10

    def style(self, layer: QgsMapLayer, style: dict[str, Any]) -> None:
        classes = painting.read_classes(style)
        if classes and layer.fields().indexFromName(FIELD) >= 0:
            painting.paint_polygons(layer, FIELD, classes)
        else:
            painting.paint_outlines(layer, painting.CHANGED)

    def is_shown(self, kinds: set[str]) -> bool:
        return "classes" not in kinds
