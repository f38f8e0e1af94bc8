"""Classes of a segmentation."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsMapLayer

from rsfm_qgis import painting
from rsfm_qgis.layer_kind import LayerKind


class Classes(LayerKind):
    order = 20
    is_unfolded = True

    def style(self, layer: QgsMapLayer, style: dict[str, Any]) -> None:
        painting.paint_classes(layer, painting.read_classes(style))
