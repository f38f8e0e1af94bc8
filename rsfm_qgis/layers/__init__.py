"""Brings what a run made onto the map. One module per kind of output says how it looks; the folder is the registry.

Nothing here needs the QGIS window: it works in a script, in qgis_process and in the toolbox.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from qgis.core import QgsLayerTreeGroup, QgsMapLayer, QgsProject, QgsRasterLayer, QgsVectorLayer

from rsfm_qgis import legend_rows
from rsfm_qgis.layer_kind import LayerKind
from rsfm_qgis.layer_time import set_time, widen_project_time
from rsfm_qgis.records import Output, read_output, read_record, read_run

RUN_PROPERTY = "rsfm/run"
RANK_PROPERTY = "rsfm/rank"
KIND_PROPERTY = "rsfm/kind"
PREVIEW_PROPERTY = "rsfm/preview"
PICTURE = "embedding_picture"
RASTER_SUFFIXES = {".tif", ".tiff", ".vrt"}
VECTOR_SUFFIXES = {".gpkg", ".geojson", ".shp"}


def add_run(project: QgsProject, folder: Path, outputs: Sequence[Output] | None = None) -> Iterator[QgsLayerTreeGroup]:
    """Put a run's layers on the map, one at each step, and yield their group after each; nothing where there is none.

    Opening a layer takes its time: between two steps the window can do something else. Layers that are there stay.

    Args:
        outputs: those of the run that are wanted; None is all.
    """
    run = read_run(folder)
    wanted = read_record(folder).outputs if outputs is None else outputs
    history = f"RSFM {run.get('version', '')}, {run.get('job', '')}, {run.get('created', '')}, {folder}"
    yield from _add(project, run.get("title") or folder.name, str(folder), wanted, history)
    group = find_group(project, str(folder))
    if group is not None and outputs is None:
        widen_project_time(project, [node.layer() for node in group.findLayers() if node.layer() is not None])


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
    """Add layers to their group, which is made at the top of the layer tree: polygons above rasters, new above old."""
    group = find_group(project, folder)
    kinds = {output.kind for output in outputs}
    dated = sorted(outputs, key=lambda output: output.date, reverse=True)
    for output in sorted(dated, key=lambda output: kind_of(output).order):
        if group is not None and group not in project.layerTreeRoot().findGroups(True):
            return  # somebody took it off the map between two steps
        if group is not None and _is_there(group, output):
            continue
        layer = make_layer(output, history)
        if layer is None:
            continue
        group = group or add_group(project, title, folder)
        project.addMapLayer(layer, False)
        _place(group, layer, output, kinds)
        yield group


def is_preview(layer: QgsMapLayer) -> bool:
    """Tell a layer that goes when its run has ended."""
    return bool(layer.customProperty(PREVIEW_PROPERTY))


def is_picture(layer: QgsMapLayer) -> bool:
    """Tell a picture of what an encoder sees: its colours are made, and nothing to learn from."""
    return bool(layer.customProperty(KIND_PROPERTY) == PICTURE)


def _is_there(group: QgsLayerTreeGroup, output: Output) -> bool:
    """Tell whether an output is on the map; a layer whose file was gone is taken off, to be made anew.

    A preview of the same file is another layer, which goes when the run ends.
    """
    for node in group.findLayers():
        layer = node.layer()
        if layer is None or is_preview(layer):
            continue
        if layer.source().partition("|")[0] == output.path:
            if layer.isValid():
                return True
            group.removeChildNode(node)
            return False
    return False


def _place(group: QgsLayerTreeGroup, layer: QgsMapLayer, output: Output, kinds: set[str]) -> None:
    """Put a layer where its kind and its date belong; of layers of a kind the first one's legend is shown."""
    kind = kind_of(output)
    layer.setCustomProperty(RANK_PROPERTY, f"{kind.order:03} {_reversed(output.date)}")
    ranks = [_rank(node) for node in group.findLayers()]
    own = str(layer.customProperty(RANK_PROPERTY))
    place = next((index for index, rank in enumerate(ranks) if rank > own), len(ranks))
    same = [node for node in group.findLayers() if _rank(node)[:3] == own[:3]]
    for other in same:
        other.setExpanded(False)
    node = group.insertLayer(place, layer)
    legend_rows.tidy(node)
    node.setItemVisibilityChecked(kind.is_shown(kinds))
    first = next(each for each in group.findLayers() if _rank(each)[:3] == own[:3])
    node.setExpanded(False)
    first.setExpanded(kind.is_unfolded)
    group.setExpanded(False)  # the tree view opens a group only when this changes while it has layers
    group.setExpanded(True)


def _rank(node: Any) -> str:
    return "" if node.layer() is None else str(node.layer().customProperty(RANK_PROPERTY, ""))


def _reversed(date: str) -> str:
    """Turn a date into a text that sorts the other way round, so that the newest is on top."""
    return "".join(chr(ord("0") + 9 - int(letter)) if letter.isdigit() else letter for letter in date) + "~"


def add_group(project: QgsProject, title: str, folder: str) -> QgsLayerTreeGroup:
    """Make the group of a run at the top of the layer tree."""
    group = project.layerTreeRoot().insertGroup(0, title)
    group.setCustomProperty(RUN_PROPERTY, folder)
    return group


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
    """Give a layer its look, its time and its provenance."""
    layer.setCustomProperty(KIND_PROPERTY, output.kind)
    kind_of(output).style(layer, output.style)
    set_time(layer, output.date)
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
