"""How often places changed; what never changed is transparent."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsMapLayer

from rsfm_qgis import painting
from rsfm_qgis.layer_kind import LayerKind


class ChangeCount(LayerKind):
    order = 25

    def style(self, layer: QgsMapLayer, style: dict[str, Any]) -> None:
        painting.paint_classes(layer, painting.read_classes(style))

    def is_shown(self, kinds: set[str]) -> bool:
        return "first_change" not in kinds
