"""How far the later of two dates lies off, block by block: arrows; blocks that cannot tell are thin and grey."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsCategorizedSymbolRenderer, QgsLineSymbol, QgsMapLayer, QgsRendererCategory
from qgis.PyQt.QtCore import QCoreApplication

from rsfm_qgis import painting
from rsfm_qgis.layer_kind import LayerKind

FIELD = "counts"
CERTAIN, UNSURE = painting.OKABE_ITO[5], "#9a9a9a"


class ShiftArrows(LayerKind):
    order = 12
    is_unfolded = True

    def style(self, layer: QgsMapLayer, style: dict[str, Any]) -> None:
        words = {
            1: QCoreApplication.translate("ShiftArrows", "Shift, drawn 16 times as long"),
            0: QCoreApplication.translate("ShiftArrows", "Cannot tell"),
        }
        categories = [
            QgsRendererCategory(1, stroke(CERTAIN, 0.7), words[1]),
            QgsRendererCategory(0, stroke(UNSURE, 0.3), words[0]),
        ]
        layer.setRenderer(QgsCategorizedSymbolRenderer(FIELD, categories))
        layer.setDisplayExpression('"length_px"')

    def is_shown(self, kinds: set[str]) -> bool:
        return "change" not in kinds


def stroke(colour: str, width: float) -> QgsLineSymbol:
    """Make a line of a width in millimetres; the shapes themselves have heads."""
    return QgsLineSymbol.createSimple({"color": colour, "width": str(width)})
