"""Where two dates differ; what does not is transparent."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsMapLayer
from qgis.PyQt.QtCore import QCoreApplication

from rsfm_qgis import painting
from rsfm_qgis.layer_kind import LayerKind


class Change(LayerKind):
    order = 20
    is_unfolded = True

    def style(self, layer: QgsMapLayer, style: dict[str, Any]) -> None:
        changed = painting.Class(1, QCoreApplication.translate("Change", "Changed"), painting.CHANGED)
        said = [each for each in painting.read_classes(style) if each.value != 0]
        painting.paint_classes(layer, said or [changed])

    def is_shown(self, kinds: set[str]) -> bool:
        return "likeness" not in kinds  # which the slider repaints
