"""Layers of magnitude, of which a share of the area is shown that a slider in the layer tree sets."""

from __future__ import annotations

import json
from array import array
from typing import Any

from qgis.core import Qgis, QgsMapLayer, QgsProject, QgsRasterLayer

from rsfm_qgis import painting
from rsfm_qgis.layers import KIND_PROPERTY
from rsfm_qgis.share_cuts import cut_at, cuts_of

STYLE_PROPERTY = "rsfm/magnitude"
SAMPLE_PIXELS = 250_000
EVERYTHING = 100.0
COVERS = "change"
"""The kind of layer that hides a magnitude below it."""


def read_style(layer: QgsMapLayer) -> dict[str, Any] | None:
    """Return what a layer of magnitude remembers: "cuts" and "show"; None for other layers."""
    said = layer.customProperty(STYLE_PROPERTY)
    if not said or not isinstance(layer, QgsRasterLayer):
        return None
    style: dict[str, Any] = json.loads(said)
    return style


def write_style(layer: QgsMapLayer, cuts: list[float], percent: float) -> None:
    """Remember what the slider needs with the layer, so that the project keeps it."""
    layer.setCustomProperty(STYLE_PROPERTY, json.dumps({"cuts": cuts, "show": percent}))


def show_share(project: QgsProject, layer: QgsRasterLayer, percent: float) -> None:
    """Show the share of the area that differs most; a layer that is hidden is shown, in place of the one above it."""
    style = read_style(layer)
    if style is None or not layer.isValid():
        return
    cuts = style["cuts"] or measure_cuts(layer)
    write_style(layer, cuts, percent)
    painting.hide_up_to(layer, cut_at(cuts, percent) if cuts and percent < EVERYTHING else None)
    _uncover(project, layer)
    project.setDirty(True)
    layer.triggerRepaint()


def measure_cuts(layer: QgsRasterLayer) -> list[float]:
    """Measure the cuts of a layer of which nobody told them, on at most 250,000 of its pixels."""
    part = min((SAMPLE_PIXELS / max(layer.width() * layer.height(), 1)) ** 0.5, 1)
    height, width = (max(int(side * part), 1) for side in (layer.height(), layer.width()))
    block = layer.dataProvider().block(1, layer.extent(), width, height)
    empty = [block.isNoData(place) for place in range(height * width)] if block.hasNoData() else []
    block.convert(Qgis.DataType.Float32)
    values = array("f", bytes(block.data()))
    return cuts_of([value for place, value in enumerate(values) if value == value and not (empty and empty[place])])


def _uncover(project: QgsProject, layer: QgsRasterLayer) -> None:
    node = project.layerTreeRoot().findLayer(layer.id())
    if node is None or node.isVisible():
        return
    node.setItemVisibilityCheckedParentRecursive(True)
    for other in node.parent().findLayers():
        if other.layer() is not None and other.layer().customProperty(KIND_PROPERTY) == COVERS:
            other.setItemVisibilityChecked(False)
