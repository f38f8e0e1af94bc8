"""The rows of a layer in the layer tree: those that say nothing are left out."""

from __future__ import annotations

from qgis.core import (
    QgsColorRampLegendNode,
    QgsLayerTreeLayer,
    QgsLayerTreeModelLegendNode,
    QgsMapLayerLegendUtils,
    QgsRasterLayer,
    QgsSimpleLegendNode,
)
from qgis.PyQt.QtCore import Qt


def tidy(node: QgsLayerTreeLayer) -> None:
    """Leave out rows without a text, and that of a band where there is one band, which QGIS calls gray."""
    layer = node.layer()
    if not isinstance(layer, QgsRasterLayer) or layer.legend() is None:
        return
    rows = layer.legend().createLayerTreeModelLegendNodes(node)
    has_one_band = len(set(layer.renderer().usesBands())) == 1
    kept = [place for place, row in enumerate(rows) if _tells(row, has_one_band)]
    if kept and len(kept) < len(rows):
        QgsMapLayerLegendUtils.setLegendNodeOrder(node, kept)
        layer.legend().itemsChanged.emit()  # or the rows that are there would stay


def _tells(row: QgsLayerTreeModelLegendNode, has_one_band: bool) -> bool:
    if isinstance(row, QgsColorRampLegendNode):
        return True
    if isinstance(row, QgsSimpleLegendNode) and has_one_band:
        return False
    return bool(str(row.data(Qt.ItemDataRole.DisplayRole) or "").strip())
