"""Confidence of a segmentation, from 0 to 1; it lies below the classes."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsMapLayer

from rsfm_qgis import painting
from rsfm_qgis.layer_kind import LayerKind


class Confidence(LayerKind):
    order = 30

    def style(self, layer: QgsMapLayer, style: dict[str, Any]) -> None:
        painting.paint_ramp(layer, style.get("minimum", 0.0), style.get("maximum", 1.0))

    def is_shown(self, kinds: set[str]) -> bool:
        return not {"classes", "change"} & kinds
