"""Brings what a run made onto the map. One module per kind of output says how it looks; the folder is the registry.

Nothing here needs the QGIS window: it works in a script, in qgis_process and in the toolbox.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from qgis.core import QgsLayerTreeGroup, QgsMapLayer, QgsProject, QgsRasterLayer, QgsVectorLayer

from rsfm_qgis.layer_kind import LayerKind
from rsfm_qgis.records import Output, read_output, read_record, read_run

RUN_PROPERTY = "rsfm/run"
RASTER_SUFFIXES = {".tif", ".tiff", ".vrt"}
VECTOR_SUFFIXES = {".gpkg", ".geojson", ".shp"}


def add_run(project: QgsProject, folder: Path) -> Iterator[QgsLayerTreeGroup]:
    """Put a run's layers on the map, one at each step, and yield their group after each; nothing where there is none.

    Opening a layer takes its time: between two steps the window can do something else.
    """
    run = read_run(folder)
    history = f"RSFM {run.get('version', '')}, {run.get('job', '')}, {run.get('created', '')}, {folder}"
    yield from _add(project, run.get("title") or folder.name, str(folder), read_record(folder).outputs, history)


def add_outputs(
    project: QgsProject, title: str, outputs: Sequence[Output | dict[str, Any]], history: str = ""
) -> QgsLayerTreeGroup | None:
    """Open the outputs that are layers and put them on the map, as a group called `title`.

    Args:
        outputs: as records or as the events of a run; files that are no layers, such as models, are passed over.
        history: kept in the metadata of each layer.

    Returns:
        The group; None where no output is a layer.
    """
    read = [output if isinstance(output, Output) else read_output(output) for output in outputs]
    groups = list(_add(project, title, "", read, history))
    return groups[-1] if groups else None


def _add(
    project: QgsProject, title: str, folder: str, outputs: Sequence[Output], history: str
) -> Iterator[QgsLayerTreeGroup]:
    """Add layers as a group at the top of the layer tree, polygons above rasters."""
    group = None
    kinds = {output.kind for output in outputs}
    for output in sorted(outputs, key=lambda output: kind_of(output).order):
        layer = make_layer(output, history)
        if layer is None:
            continue
        if group is not None and group not in project.layerTreeRoot().findGroups(True):
            return  # somebody took it off the map between two steps
        if group is None:
            group = project.layerTreeRoot().insertGroup(0, title)
            group.setCustomProperty(RUN_PROPERTY, folder)
        project.addMapLayer(layer, False)
        node = group.addLayer(layer)
        node.setItemVisibilityChecked(kind_of(output).is_shown(kinds))
        node.setExpanded(kind_of(output).is_unfolded)
        group.setExpanded(False)  # the tree view opens a group only when this changes while it has layers
        group.setExpanded(True)
        yield group


def find_group(project: QgsProject, folder: str) -> QgsLayerTreeGroup | None:
    """Find the group of a run that is still on the map."""
    groups = project.layerTreeRoot().findGroups(True)
    return next((group for group in groups if group.customProperty(RUN_PROPERTY) == folder and folder), None)


def make_layer(output: Output, history: str = "") -> QgsMapLayer | None:
    """Make the styled layer of an output; None where it is no layer or cannot be read."""
    suffix = Path(output.path).suffix.lower()
    if suffix in RASTER_SUFFIXES:
        layer: QgsMapLayer = QgsRasterLayer(output.path, output.title)
    elif suffix in VECTOR_SUFFIXES:
        layer = QgsVectorLayer(output.path, output.title)
    else:
        return None
    if not layer.isValid():
        return None
    style_layer(layer, output, history)
    return layer


def style_layer(layer: QgsMapLayer, output: Output, history: str = "") -> None:
    """Give a layer its look and its provenance."""
    kind_of(output).style(layer, output.style)
    if history:
        metadata = layer.metadata()
        metadata.addHistoryItem(history)
        layer.setMetadata(metadata)


def kind_of(output: Output) -> LayerKind:
    """Find how an output looks; an unknown kind looks as QGIS shows it."""
    if not (Path(__file__).parent / f"{output.kind}.py").is_file():
        return LayerKind()
    module = import_module(f"{__name__}.{output.kind}")
    member = next(
        value for value in vars(module).values() if isinstance(value, type) and value.__module__ == module.__name__
    )
    found: LayerKind = member()
    return found
