"""The few names that QGIS 3.22 and later versions spell differently."""

from __future__ import annotations

from typing import Any

from qgis import core
from qgis.core import (
    Qgis,
    QgsMapLayerProxyModel,
    QgsRasterLayerTemporalProperties,
    QgsVectorLayerTemporalProperties,
    QgsWkbTypes,
)

LayerFilter = getattr(Qgis, "LayerFilter", None) or QgsMapLayerProxyModel.Filter


def _fixed_range(modes: Any) -> Any:
    return modes.FixedTemporalRange if hasattr(modes, "FixedTemporalRange") else modes.ModeFixedTemporalRange


FIXED_RASTER_RANGE = _fixed_range(
    getattr(Qgis, "RasterTemporalMode", None) or QgsRasterLayerTemporalProperties.TemporalMode
)
FIXED_VECTOR_RANGE = _fixed_range(
    getattr(Qgis, "VectorTemporalMode", None) or QgsVectorLayerTemporalProperties.TemporalMode
)

_SHAPES: Any = getattr(Qgis, "GeometryType", None)
POLYGON = _SHAPES.Polygon if _SHAPES else QgsWkbTypes.GeometryType.PolygonGeometry
_LAYERS: Any = getattr(Qgis, "LayerType", None)
RASTER_LAYER = _LAYERS.Raster if _LAYERS else core.QgsMapLayerType.RasterLayer
