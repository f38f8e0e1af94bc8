"""Which part of the raster: all of it, or what the map shows."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsCoordinateReferenceSystem, QgsCoordinateTransform, QgsCsException, QgsRectangle
from qgis.PyQt.QtWidgets import QComboBox, QVBoxLayout, QWidget

from rsfm_qgis.collection import SUFFIX
from rsfm_qgis.gui.editor import Editor, InputError, Workspace, shrinkable
from rsfm_qgis.schema import Field

WHOLE, VISIBLE, FIXED = range(3)
RASTERS = {"raster", "rasters"}
NUMBERED = "EPSG:"


class AreaEditor(Editor):
    """Its value is "west,south,east,north" in the raster's own CRS, or None for all of it."""

    def __init__(self, field: Field, workspace: Workspace, parent: QWidget | None = None) -> None:
        super().__init__(field, workspace, parent)
        self.combo = shrinkable(QComboBox())
        self.combo.addItem(self.tr("Whole raster"), WHOLE)
        if workspace.canvas is not None:
            self.combo.addItem(self.tr("Visible area"), VISIBLE)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.combo)
        self._fixed = ""
        self._raster: Any = None
        self.combo.currentIndexChanged.connect(self.changed)

    def value(self) -> Any:
        how = self.combo.currentData()
        if how == FIXED:
            return self._fixed
        return self._visible() if how == VISIBLE else None

    def set_value(self, value: Any) -> None:
        self._fixed = value or ""
        at = self.combo.findData(FIXED)
        if at >= 0:
            self.combo.removeItem(at)
        if self._fixed:
            self.combo.addItem(self._fixed, FIXED)
        self.combo.setCurrentIndex(self.combo.findData(FIXED if self._fixed else WHOLE))

    def connect_to(self, siblings: dict[str, Any]) -> None:
        self._raster = next((each for each in siblings.values() if each.field.kind in RASTERS), None)

    def _visible(self) -> str | None:
        crs = self.workspace.canvas.mapSettings().destinationCrs()
        if self._raster is not None and str(self._raster.value()).endswith(SUFFIX):
            return self._on_the_ground(crs)
        box = self._box(self._raster.crs() if self._raster is not None else crs)
        edges = (box.xMinimum(), box.yMinimum(), box.xMaximum(), box.yMaximum())
        return ",".join(f"{edge:.12g}" for edge in edges)

    def _on_the_ground(self, crs: QgsCoordinateReferenceSystem) -> str:
        """Return what the map shows as a polygon that names its CRS, for rasters of several."""
        if not crs.authid().startswith(NUMBERED):
            crs = QgsCoordinateReferenceSystem("EPSG:4326")
        return f"SRID={crs.authid()[len(NUMBERED) :]};{self._box(crs).asWktPolygon()}"

    def _box(self, crs: QgsCoordinateReferenceSystem) -> QgsRectangle:
        canvas = self.workspace.canvas
        transform = QgsCoordinateTransform(canvas.mapSettings().destinationCrs(), crs, self.workspace.project)
        try:
            return transform.transformBoundingBox(canvas.extent())
        except QgsCsException as error:
            raise InputError(self.tr("The visible area cannot be expressed in the raster's CRS.")) from error
