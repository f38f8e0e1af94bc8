"""How much two dates differ."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsMapLayer, QgsRasterBandStats

from rsfm_qgis import painting
from rsfm_qgis.layer_kind import LayerKind
from rsfm_qgis.magnitude_layers import EVERYTHING, write_style

SAMPLE_PIXELS = 100_000


class Magnitude(LayerKind):
    order = 30
    is_unfolded = True

    def style(self, layer: QgsMapLayer, style: dict[str, Any]) -> None:
        if "minimum" in style and "maximum" in style:
            low, high = style["minimum"], style["maximum"]
        else:
            wanted = QgsRasterBandStats.Stats.Min | QgsRasterBandStats.Stats.Max
            found = layer.dataProvider().bandStatistics(1, wanted, layer.extent(), SAMPLE_PIXELS)
            low, high = found.minimumValue, found.maximumValue
        write_style(layer, style.get("cuts") or [], EVERYTHING)
        painting.paint_ramp(layer, low, high)

    def is_shown(self, kinds: set[str]) -> bool:
        return "change" not in kinds
