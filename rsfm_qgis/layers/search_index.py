"""The index among which similar places are found: on the map to be chosen, not to be looked at."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsMapLayer

from rsfm_qgis import painting
from rsfm_qgis.layer_kind import LayerKind


class SearchIndex(LayerKind):
    order = 45

    def style(self, layer: QgsMapLayer, style: dict[str, Any]) -> None:
        largest = 3 / layer.bandCount() ** 0.5  # of a feature of length 1, whose values are alike
        painting.paint_ramp(layer, -largest, largest)

    def is_shown(self, kinds: set[str]) -> bool:
        return False
