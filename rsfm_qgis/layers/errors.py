"""Where a map of classes is right and where it is wrong; what no label tells is transparent."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsMapLayer
from qgis.PyQt.QtCore import QCoreApplication

from rsfm_qgis import painting
from rsfm_qgis.layer_kind import LayerKind

RIGHT, WRONG = "#0072b2", "#d55e00"


class Errors(LayerKind):
    order = 15
    is_unfolded = True

    def style(self, layer: QgsMapLayer, style: dict[str, Any]) -> None:
        painting.paint_classes(
            layer,
            [
                painting.Class(1, QCoreApplication.translate("Errors", "Right"), RIGHT),
                painting.Class(2, QCoreApplication.translate("Errors", "Wrong"), WRONG),
            ],
        )
