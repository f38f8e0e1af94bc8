"""The picture of an embedding: its colours are those of the file, unstretched; it tells what the embedding tells."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsContrastEnhancement, QgsMapLayer, QgsMultiBandColorRenderer

from rsfm_qgis.layer_kind import LayerKind


class EmbeddingPicture(LayerKind):
    order = 41

    def style(self, layer: QgsMapLayer, style: dict[str, Any]) -> None:
        renderer = QgsMultiBandColorRenderer(layer.dataProvider(), 1, 2, 3)
        layer.setRenderer(renderer)
        layer.setContrastEnhancement(QgsContrastEnhancement.ContrastEnhancementAlgorithm.NoEnhancement)

    def is_shown(self, kinds: set[str]) -> bool:
        return "embedding" not in kinds
