"""When places first changed: a colour for each date; what never changed is transparent."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsMapLayer

from rsfm_qgis import painting
from rsfm_qgis.layer_kind import LayerKind


class FirstChange(LayerKind):
    order = 15  # above the changes of each date, which it sums up
    is_unfolded = True

    def style(self, layer: QgsMapLayer, style: dict[str, Any]) -> None:
        painting.paint_classes(layer, painting.read_classes(style))
