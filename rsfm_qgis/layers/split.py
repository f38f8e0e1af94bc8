"""The blocks that learning and the scores used, by what each was for."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsMapLayer

from rsfm_qgis import painting
from rsfm_qgis.layer_kind import LayerKind


class Split(LayerKind):
    order = 10
    is_unfolded = True

    def style(self, layer: QgsMapLayer, style: dict[str, Any]) -> None:
        field = style.get("field", "part")
        index = layer.fields().indexFromName(field)
        if index < 0:
            painting.paint_outlines(layer, "#0072b2")
            return
        parts = sorted(str(value) for value in layer.uniqueValues(index))
        entries = [{"value": part, "name": part.replace("_", " ")} for part in parts]
        painting.paint_polygons(layer, field, painting.read_classes({"classes": style.get("classes") or entries}))
