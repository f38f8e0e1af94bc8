"""A raster: a layer of the project or a file."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsCoordinateReferenceSystem, QgsRasterLayer
from qgis.PyQt.QtWidgets import QVBoxLayout, QWidget

from rsfm_qgis.compatibility import LayerFilter
from rsfm_qgis.gui.editor import Editor, Workspace
from rsfm_qgis.gui.layer_choice import LayerChoice
from rsfm_qgis.schema import Field


class RasterEditor(Editor):
    """Its value is the source that GDAL opens."""

    def __init__(self, field: Field, workspace: Workspace, parent: QWidget | None = None) -> None:
        super().__init__(field, workspace, parent)
        self.choice = LayerChoice(LayerFilter.RasterLayer, {"gdal"}, self.tr("Rasters (*)"), field.optional)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.choice)
        self.choice.changed.connect(self.changed)

    def value(self) -> Any:
        layer = self.choice.layer()
        return (layer.source() if layer is not None else self.choice.file()) or None

    def set_value(self, value: Any) -> None:
        self.choice.choose(value or "")

    def crs(self) -> QgsCoordinateReferenceSystem:
        """Return the raster's own CRS; invalid where nothing is chosen."""
        layer = self.choice.layer()
        if layer is not None:
            return layer.crs()
        path = self.choice.file()
        return QgsRasterLayer(path).crs() if path else QgsCoordinateReferenceSystem()

    def missing(self) -> str:
        if self.field.required and self.value() is None:
            return str(self.tr("Choose a raster layer here, or a file with the button \u201c\u2026\u201d."))
        return ""
