"""Layers of likeness to marks: the one that follows the clicks, and how the slider repaints all of them."""

from __future__ import annotations

import json
from typing import Any

from qgis.core import QgsDataProvider, QgsLayerTreeGroup, QgsProject, QgsRasterLayer

from rsfm_qgis import layers, legend_rows, painting
from rsfm_qgis.records import Output
from rsfm_qgis.share_cuts import cut_at

KIND = "likeness"
STYLE_PROPERTY = "rsfm/likeness"
LIVE_PROPERTY = "rsfm/live"
MIDDLE = (0.5,)
"""Where to cut where a style does not say."""


def cut_of(style: dict[str, Any], percent: float) -> float:
    """Return the probability above which that share of the area lies; 0.5 where the style does not say."""
    return cut_at(style.get("cuts") or MIDDLE, percent)


def show_live(project: QgsProject, group: QgsLayerTreeGroup, title: str, answer: dict[str, Any], share: float) -> None:
    """Bring the answer to a click onto the map, in place of the one before."""
    style = {"kinds": answer["kinds"], "cuts": answer["cuts"], "show": share}
    output = Output(KIND, answer["path"], title, style)
    layer = find_live(group)
    if layer is not None:
        layer.setDataSource(output.path, layer.name(), "gdal", QgsDataProvider.ProviderOptions())
        if layer.isValid():
            layers.style_layer(layer, output)
            legend_rows.tidy(group.findLayer(layer.id()))
            layer.triggerRepaint()
        return
    made = layers.make_layer(output)
    if made is None:
        return
    made.setCustomProperty(LIVE_PROPERTY, True)
    project.addMapLayer(made, False)
    node = group.addLayer(made)
    legend_rows.tidy(node)
    node.setExpanded(True)
    group.setExpanded(False)  # the tree view opens a group only when this changes while it has layers
    group.setExpanded(True)


def find_live(group: QgsLayerTreeGroup | None) -> QgsRasterLayer | None:
    """Find the layer that follows the clicks, in the group of the marks."""
    found = [] if group is None else [node.layer() for node in group.findLayers()]
    return next((layer for layer in found if layer is not None and layer.customProperty(LIVE_PROPERTY)), None)


def repaint(project: QgsProject, percent: float) -> int:
    """Show another share in all layers of likeness; returns how many there are."""
    count = 0
    for layer in project.mapLayers().values():
        said = layer.customProperty(STYLE_PROPERTY)
        if not said or not isinstance(layer, QgsRasterLayer) or not layer.isValid():
            continue
        style = {**json.loads(said), "show": percent}
        layer.setCustomProperty(STYLE_PROPERTY, json.dumps(style))
        painting.paint_likeness(layer, painting.read_classes({"classes": style.get("kinds")}), cut_of(style, percent))
        layer.triggerRepaint()
        count += 1
    return count
