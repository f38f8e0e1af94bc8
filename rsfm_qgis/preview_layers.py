"""Layers of what a run has done so far: temporary, in the run's group, in the style of the finished layer."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from qgis.core import QgsDataProvider, QgsLayerTreeLayer, QgsProject

from rsfm_qgis import layers, legend_rows
from rsfm_qgis.records import Output

OUTPUTS, PREVIEWS = "outputs", "previews"


def show(project: QgsProject, folder: str, title: str, preview: Output, only_there: bool = False) -> bool:
    """Bring a preview onto the map, in place of the one before; tells whether it is there.

    Args:
        title: of the run, for its group.
        only_there: leave it where the one before was taken off the map.
    """
    nodes = find(project, folder, preview.key)
    if not nodes and only_there:
        return False
    if nodes:
        layer = nodes[0].layer()
        opacity = layer.opacity()
        layer.setDataSource(preview.path, preview.title, "gdal", QgsDataProvider.ProviderOptions())
        if layer.isValid():
            layers.style_layer(layer, preview)
            layer.setOpacity(opacity)  # the user may have changed it
            layer.triggerRepaint()
        return True
    layer = layers.make_layer(preview)
    if layer is None:
        return True  # the next one will be there
    layer.setCustomProperty(layers.PREVIEW_PROPERTY, preview.key)
    layer.setOpacity(float(preview.style.get("opacity", 1)))
    group = layers.find_group(project, folder) or layers.add_group(project, title, folder)
    project.addMapLayer(layer, False)
    is_small = bool(find(project, folder))
    node = group.insertLayer(1 if is_small else 0, layer)
    legend_rows.tidy(node)
    node.setExpanded(layers.kind_of(preview).is_unfolded and not is_small)
    group.setExpanded(False)  # the tree view opens a group only when this changes while it has layers
    group.setExpanded(True)
    return True


def find(project: QgsProject, folder: str, key: str = "") -> list[QgsLayerTreeLayer]:
    """Find the previews of a run that are on the map, or the one of a key."""
    group = layers.find_group(project, folder)
    found = [] if group is None else group.findLayers()
    shown = [(node, node.layer().customProperty(layers.PREVIEW_PROPERTY)) for node in found if node.layer() is not None]
    return [node for node, own in shown if own and key in {"", own}]


def remove(project: QgsProject, folder: str, key: str = "") -> None:
    """Take the previews of a run off the map, and its group where nothing is left in it."""
    for node in find(project, folder, key):
        project.removeMapLayer(node.layerId())
    group = layers.find_group(project, folder)
    if group is not None and not group.children():
        group.parent().removeChildNode(group)


def is_finished(preview: Output, outputs: Iterable[Output]) -> bool:
    """Tell whether one of the outputs is what a preview promised: previews/NAME-small is outputs/NAME.tif."""
    stem = preview.key.rpartition("-")[0]
    return any(_promise(output.path) == stem for output in outputs)


def _promise(path: str) -> str:
    parts: list[Any] = list(Path(path).with_suffix("").parts)
    places = [place for place, part in enumerate(parts) if part == OUTPUTS]
    if places:
        parts[places[-1]] = PREVIEWS
    return str(Path(*parts))
