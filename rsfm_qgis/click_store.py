"""The marks of a pair of rasters: points and polygons with a kind, in a GeoPackage that every click is written to.

The two layers are in the project, as any other, and may be edited with QGIS's own tools.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from qgis.core import (
    QgsCategorizedSymbolRenderer,
    QgsCoordinateReferenceSystem,
    QgsFeature,
    QgsGeometry,
    QgsLayerTreeGroup,
    QgsMarkerSymbol,
    QgsPointXY,
    QgsProject,
    QgsRendererCategory,
    QgsVectorFileWriter,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QObject, pyqtSignal

from rsfm_qgis import painting, paths

PAIR_PROPERTY = "rsfm/clicks"
KIND, COLOUR = "kind", "color"
NOTHING = "not this"
NOTHING_COLOUR = "#ffffff"
POINTS, AREAS = "clicks", "areas"
FIELDS = f"field={KIND}:string(80)&field={COLOUR}:string(9)"
ACTIONS = QgsVectorFileWriter.ActionOnExistingFile


class Marked(NamedTuple):
    """A mark: the layer it is in and its number there."""

    layer: QgsVectorLayer
    fid: int


class ClickStore(QObject):
    """Marks of the pair that is chosen.

    Signals:
        changed: a mark came or went, here or by QGIS's tools.
    """

    changed = pyqtSignal()

    def __init__(self, project: QgsProject, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._project = project
        self._pair = ""
        self._layers: dict[str, QgsVectorLayer] = {}
        self._added: list[Marked] = []
        project.layersWillBeRemoved.connect(self._forget)

    def choose(self, before: str, after: str) -> None:
        """Take the marks of a pair, where the project has some."""
        pair = f"{before}\n{after}"
        if pair == self._pair:
            return
        self._pair, self._layers, self._added = pair, {}, []
        for layer in self._project.mapLayers().values():
            if layer.customProperty(PAIR_PROPERTY) == pair and isinstance(layer, QgsVectorLayer) and layer.isValid():
                self._take(AREAS if f"layername={AREAS}" in layer.source() else POINTS, layer)
        self.changed.emit()

    def sources(self) -> dict[str, str | None]:
        """Return the sources of points and polygons; None where there are none."""
        found = {name: self._layers.get(name) for name in (POINTS, AREAS)}
        return {
            name: layer.source() if layer is not None and any(True for _ in layer.getFeatures()) else None
            for name, layer in found.items()
        }

    def path(self) -> Path | None:
        """Return the file of the marks; None where there is none yet."""
        layer = next(iter(self._layers.values()), None)
        return None if layer is None else Path(layer.source().partition("|")[0])

    def group(self) -> QgsLayerTreeGroup | None:
        """Return the group of the layer tree that the marks are in."""
        for layer in self._layers.values():
            node = self._project.layerTreeRoot().findLayer(layer.id())
            if node is not None:
                return node.parent()
        return None

    def crs(self) -> QgsCoordinateReferenceSystem:
        """Return the CRS of the marks; invalid where there are none yet."""
        layer = self._layers.get(POINTS)
        return QgsCoordinateReferenceSystem() if layer is None else layer.crs()

    def kinds(self) -> dict[str, str]:
        """Return the kinds that were marked, with their colours, in the order in which they were first marked."""
        return {kind: colour for kind, colour, _ in self._marks() if kind != NOTHING}

    def places(self) -> dict[str, int]:
        """Return how many places of each kind, and of none, are marked; an area counts as three."""
        found = {NOTHING: 0}
        for kind, _, name in self._marks():
            found[kind] = found.get(kind, 0) + (3 if name == AREAS else 1)
        return found

    def add(self, kind: str, shape: QgsGeometry, crs: QgsCoordinateReferenceSystem, title: str) -> str:
        """Write a mark to the file at once; returns what went wrong, empty if nothing.

        Args:
            shape: a point or a polygon, in the CRS of the earlier raster.
            title: of the group that is made for the first mark.
        """
        if not self._layers:
            problem = self._create(crs, title)
            if problem:
                return problem
        layer = self._layers[POINTS if shape.type() == self._layers[POINTS].geometryType() else AREAS]
        feature = QgsFeature(layer.fields())
        feature.setGeometry(shape)
        feature.setAttribute(KIND, kind)
        feature.setAttribute(COLOUR, self.colour(kind))
        done, added = layer.dataProvider().addFeatures([feature])
        if not done:
            return str(layer.dataProvider().lastError()) or str(self.tr("The mark could not be written."))
        self._added.append(Marked(layer, added[0].id()))
        self._tell(layer)
        return ""

    def colour(self, kind: str) -> str:
        """Return the colour of a kind, or that which it will have."""
        known = self.kinds()
        if kind == NOTHING:
            return NOTHING_COLOUR
        return known.get(kind) or painting.OKABE_ITO[len(known) % len(painting.OKABE_ITO)]

    def undo(self) -> bool:
        """Take back the last mark that was made here; tells whether there was one."""
        while self._added:
            marked = self._added.pop()
            if marked.layer in self._layers.values() and marked.layer.getFeature(marked.fid).isValid():
                self._remove(marked)
                return True
        return False

    def remove_at(self, place: QgsPointXY, radius: float) -> bool:
        """Remove the mark nearest to a place; tells whether there was one within the radius."""
        there = QgsGeometry.fromPointXY(place)
        near = [
            (feature.geometry().distance(there), place, Marked(layer, feature.id()))
            for place, layer in enumerate(self._layers.values())
            for feature in layer.getFeatures()
            if feature.hasGeometry()
        ]
        distance, _, marked = min(near, key=lambda each: each[:2], default=(radius + 1, 0, None))
        if marked is None or distance > radius:
            return False
        self._remove(marked)
        return True

    def _remove(self, marked: Marked) -> None:
        marked.layer.dataProvider().deleteFeatures([marked.fid])
        self._tell(marked.layer)

    def _marks(self) -> list[tuple[str, str, str]]:
        """Return kind, colour and layer of each mark, as the backend reads them."""
        return [
            (str(feature[KIND]), str(feature[COLOUR]), name)
            for name in (POINTS, AREAS)
            if name in self._layers
            for feature in self._layers[name].getFeatures()
            if str(feature[KIND] or "") not in {"", "NULL"}
        ]

    def _create(self, crs: QgsCoordinateReferenceSystem, title: str) -> str:
        """Make the file with its two layers; returns what went wrong, empty if nothing."""
        folder = paths.clicks_folder(self._project)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"clicks-{datetime.now():%Y%m%d-%H%M%S-%f}.gpkg"
        names = {POINTS: self.tr("Clicks"), AREAS: self.tr("Drawn areas")}
        made = {}
        for name, geometry in ((POINTS, "Point"), (AREAS, "Polygon")):
            empty = QgsVectorLayer(f"{geometry}?{FIELDS}", name, "memory")
            empty.setCrs(crs)
            options = QgsVectorFileWriter.SaveVectorOptions()
            options.driverName, options.layerName = "GPKG", name
            if path.exists():
                options.actionOnExistingFile = ACTIONS.CreateOrOverwriteLayer
            context = self._project.transformContext()
            result = QgsVectorFileWriter.writeAsVectorFormatV3(empty, str(path), context, options)
            layer = QgsVectorLayer(f"{path}|layername={name}", names[name], "ogr")
            if result[0] != QgsVectorFileWriter.WriterError.NoError or not layer.isValid():
                return str(self.tr("The marks cannot be kept in \u201c{0}\u201d: {1}").format(path, result[1]))
            layer.setCustomProperty(PAIR_PROPERTY, self._pair)
            made[name] = layer
        self._show(made, title)
        return ""

    def _show(self, made: dict[str, QgsVectorLayer], title: str) -> None:
        group = self._project.layerTreeRoot().insertGroup(0, title)
        for name, layer in made.items():
            self._project.addMapLayer(layer, False)
            group.addLayer(layer).setExpanded(False)
            self._take(name, layer)

    def _take(self, name: str, layer: QgsVectorLayer) -> None:
        self._layers[name] = layer
        layer.afterCommitChanges.connect(self.changed)

    def _tell(self, layer: QgsVectorLayer) -> None:
        layer.updateExtents()
        self.paint()
        layer.triggerRepaint()
        self.changed.emit()

    def paint(self) -> None:
        """Show each kind in its colour, and what is not meant in white."""
        colours = {**self.kinds(), NOTHING: NOTHING_COLOUR}
        for name, layer in self._layers.items():
            categories = [
                QgsRendererCategory(kind, _symbol(name, colour, kind == NOTHING), kind)
                for kind, colour in colours.items()
            ]
            layer.setRenderer(QgsCategorizedSymbolRenderer(KIND, categories))

    def _forget(self, ids: list[str]) -> None:
        """Let go of layers that are taken off the project; their file stays."""
        if any(layer.id() in ids for layer in self._layers.values()):
            self._layers, self._added = {}, []
            self.changed.emit()


def _symbol(name: str, colour: str, is_nothing: bool) -> Any:
    if name == AREAS:
        return painting.outline("#000000" if is_nothing else colour, 0.1)
    said = {"name": "circle", "color": colour, "size": "3", "outline_width": "0.4"}
    return QgsMarkerSymbol.createSimple({**said, "outline_color": "#000000" if is_nothing else "#ffffff"})
