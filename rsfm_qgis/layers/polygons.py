"""Polygons of a segmentation, in the colours of the classes; the raster tells the same, so they start hidden."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsMapLayer
from qgis.PyQt.QtCore import QCoreApplication

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
        self._name_fields(layer)

    def _name_fields(self, layer: QgsMapLayer) -> None:
        """Give the attributes names that a person reads, in the table, the form and the labels."""
        titles = {
            FIELD: QCoreApplication.translate("Polygons", "Class number"),
            "name": QCoreApplication.translate("Polygons", "Class"),
            "area_m2": QCoreApplication.translate("Polygons", "Area, m²"),
            "confidence": QCoreApplication.translate("Polygons", "Mean confidence"),
        }
        for field, title in titles.items():
            index = layer.fields().indexFromName(field)
            if index >= 0:
                layer.setFieldAlias(index, title)
        if layer.fields().indexFromName("name") >= 0:
            layer.setDisplayExpression('"name"')

    def is_shown(self, kinds: set[str]) -> bool:
        return "classes" not in kinds
