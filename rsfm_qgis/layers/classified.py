"""Polygons or tiles by their class; those without one are grey."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsMapLayer
from qgis.PyQt.QtCore import QCoreApplication

from rsfm_qgis import painting
from rsfm_qgis.layer_kind import LayerKind

NO_CLASS = "#9a9a9a"


class Classified(LayerKind):
    order = 10
    is_unfolded = True

    def style(self, layer: QgsMapLayer, style: dict[str, Any]) -> None:
        rest = painting.Class(None, QCoreApplication.translate("Classified", "No class"), NO_CLASS)
        classes = painting.read_classes(style)
        painting.paint_polygons(layer, style.get("field", "predicted"), [*classes, rest])

    def is_shown(self, kinds: set[str]) -> bool:
        return "classes" not in kinds
