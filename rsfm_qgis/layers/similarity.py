"""How alike places are to those that were clicked: a cosine."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsMapLayer

from rsfm_qgis import painting
from rsfm_qgis.layer_kind import LayerKind


class Similarity(LayerKind):
    order = 30
    is_unfolded = True

    def style(self, layer: QgsMapLayer, style: dict[str, Any]) -> None:
        painting.paint_ramp(layer, style.get("minimum", 0.0), style.get("maximum", 1.0))
