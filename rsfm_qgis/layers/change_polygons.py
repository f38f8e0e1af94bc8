"""Outlines of what changed."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsMapLayer

from rsfm_qgis import painting
from rsfm_qgis.layer_kind import LayerKind


class ChangePolygons(LayerKind):
    order = 10

    def style(self, layer: QgsMapLayer, style: dict[str, Any]) -> None:
        painting.paint_outlines(layer, "#cc79a7")
