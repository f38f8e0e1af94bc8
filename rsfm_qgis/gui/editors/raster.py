"""A raster: a layer of the project or a file; where a job takes several, a collection too."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsCoordinateReferenceSystem, QgsRasterLayer
from qgis.PyQt.QtWidgets import QVBoxLayout, QWidget

from rsfm_qgis.collection import title
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
        if field.details.get("collections"):
            self._list_collections()
            workspace.collections.listed.connect(self._list_collections)

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

    def _list_collections(self) -> None:
        names = {path: title(path) for path in self.workspace.collections.all()}
        self.choice.offer({self.tr("All of {0}").format(name): path for path, name in names.items()})

    def missing(self) -> str:
        if self.field.required and self.value() is None:
            return str(self.tr("Choose a raster layer here, or a file with the button \u201c\u2026\u201d."))
        return ""
