"""The few names that QGIS 3.22 and later versions spell differently."""

from __future__ import annotations

from qgis.core import Qgis, QgsMapLayerProxyModel

LayerFilter = getattr(Qgis, "LayerFilter", None) or QgsMapLayerProxyModel.Filter
