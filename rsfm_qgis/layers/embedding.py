"""Principal components of an encoder's features, as red, green and blue."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsContrastEnhancement, QgsMapLayer, QgsMultiBandColorRenderer, QgsRasterLayer

from rsfm_qgis import painting
from rsfm_qgis.layer_kind import LayerKind

STRETCH = QgsContrastEnhancement.ContrastEnhancementAlgorithm.StretchToMinimumMaximum


class Embedding(LayerKind):
    order = 40

    def style(self, layer: QgsMapLayer, style: dict[str, Any]) -> None:
        bands, ranges = style.get("bands") or [], style.get("ranges") or []
        if len(bands) >= 3 and len(ranges) >= 3:
            layer.setRenderer(_colours(layer, bands[:3], ranges[:3]))
        elif ranges:
            painting.paint_ramp(layer, *ranges[0])


def _colours(layer: QgsRasterLayer, bands: list[int], ranges: list[list[float]]) -> QgsMultiBandColorRenderer:
    provider = layer.dataProvider()
    renderer = QgsMultiBandColorRenderer(provider, *bands)
    setters = (
        renderer.setRedContrastEnhancement,
        renderer.setGreenContrastEnhancement,
        renderer.setBlueContrastEnhancement,
    )
    for setter, band, (low, high) in zip(setters, bands, ranges):
        enhancement = QgsContrastEnhancement(provider.dataType(band))
        enhancement.setMinimumValue(low)
        enhancement.setMaximumValue(high)
        enhancement.setContrastEnhancementAlgorithm(STRETCH)
        setter(enhancement)
    return renderer
