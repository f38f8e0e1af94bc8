"""How much changes are like those that were marked: each kind in its colour, where it is among the share shown."""

from __future__ import annotations

import json
from typing import Any

from qgis.core import QgsMapLayer

from rsfm_qgis import painting
from rsfm_qgis.layer_kind import LayerKind
from rsfm_qgis.likeness_layers import STYLE_PROPERTY, cut_of

USUAL_SHARE = 5.0


class Likeness(LayerKind):
    order = 25
    is_unfolded = True

    def style(self, layer: QgsMapLayer, style: dict[str, Any]) -> None:
        kinds = painting.read_classes({"classes": style.get("kinds") or [{"value": 1, "name": layer.name()}]})
        layer.setCustomProperty(STYLE_PROPERTY, json.dumps(style))
        painting.paint_likeness(layer, kinds, cut_of(style, float(style.get("show", USUAL_SHARE))))
