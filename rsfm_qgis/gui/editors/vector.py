"""Polygons or points: a layer of the project or a file."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsVectorFileWriter, QgsVectorLayer
from qgis.PyQt.QtWidgets import QVBoxLayout, QWidget

from rsfm_qgis import paths
from rsfm_qgis.compatibility import LayerFilter
from rsfm_qgis.gui.editor import Editor, InputError, Workspace
from rsfm_qgis.gui.layer_choice import LayerChoice
from rsfm_qgis.schema import Field

PROVIDERS = {"ogr", "memory", "spatialite", "postgres", "virtual", "WFS", "mssql", "oracle"}


class VectorEditor(Editor):
    """Its value is a source that GDAL opens: the layer's own file, or a copy of what the layer shows now."""

    def __init__(self, field: Field, workspace: Workspace, parent: QWidget | None = None) -> None:
        super().__init__(field, workspace, parent)
        geometry = str(field.details.get("geometry", ""))
        shapes = {"point": LayerFilter.PointLayer, "any": LayerFilter.PolygonLayer | LayerFilter.PointLayer}
        files = self.tr("Points (*)") if geometry == "point" else self.tr("Polygons (*)")
        self.choice = LayerChoice(shapes.get(geometry, LayerFilter.PolygonLayer), PROVIDERS, files, field.optional)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.choice)
        self.choice.changed.connect(self.changed)

    def value(self) -> Any:
        layer = self.choice.layer()
        if layer is None:
            return self.choice.file() or None
        if layer.providerType() == "ogr" and not layer.isModified() and not layer.subsetString():
            return layer.source()
        return self._copy(layer)

    def set_value(self, value: Any) -> None:
        self.choice.choose(value or "")

    def layer(self) -> QgsVectorLayer | None:
        """Return the chosen layer, opened from its file where it is not in the project."""
        layer = self.choice.layer()
        if layer is None and self.choice.file():
            layer = QgsVectorLayer(self.choice.file())
        return layer

    def missing(self) -> str:
        if self.field.required and self.choice.layer() is None and not self.choice.file():
            return str(self.tr("Choose a polygon layer here, or a file with the button \u201c\u2026\u201d."))
        return ""

    def _copy(self, layer: QgsVectorLayer) -> str:
        """Write the layer with its unsaved edits and its filter, because the backend reads files only."""
        folder = paths.runs_folder(self.workspace.project).parent / "labels"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{layer.id()}.gpkg"
        options = QgsVectorFileWriter.SaveVectorOptions()
        options.driverName, options.layerName = "GPKG", "labels"
        context = self.workspace.project.transformContext()
        result = QgsVectorFileWriter.writeAsVectorFormatV3(layer, str(path), context, options)
        if result[0] != QgsVectorFileWriter.WriterError.NoError:
            raise InputError(
                self.tr("A copy of the layer could not be written to \u201c{0}\u201d: {1}").format(path, result[1])
            )
        return str(path)
