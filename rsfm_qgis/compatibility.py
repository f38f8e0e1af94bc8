"""The few names that QGIS 3.22 and later versions spell differently."""

from __future__ import annotations

from typing import Any

from qgis.core import Qgis, QgsMapLayerProxyModel, QgsRasterLayerTemporalProperties, QgsVectorLayerTemporalProperties

LayerFilter = getattr(Qgis, "LayerFilter", None) or QgsMapLayerProxyModel.Filter


def _fixed_range(modes: Any) -> Any:
    return modes.FixedTemporalRange if hasattr(modes, "FixedTemporalRange") else modes.ModeFixedTemporalRange


FIXED_RASTER_RANGE = _fixed_range(
    getattr(Qgis, "RasterTemporalMode", None) or QgsRasterLayerTemporalProperties.TemporalMode
)
FIXED_VECTOR_RANGE = _fixed_range(
    getattr(Qgis, "VectorTemporalMode", None) or QgsVectorLayerTemporalProperties.TemporalMode
)
