"""Which part of the raster: all of it, what the map shows, or polygons."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsCoordinateReferenceSystem, QgsCoordinateTransform, QgsCsException, QgsRectangle
from qgis.gui import QgsMapLayerComboBox
from qgis.PyQt.QtWidgets import QCheckBox, QComboBox, QVBoxLayout, QWidget

from rsfm_qgis.area_text import number, numbered, polygons_text
from rsfm_qgis.collection import SUFFIX
from rsfm_qgis.compatibility import LayerFilter
from rsfm_qgis.gui.editor import Editor, InputError, Workspace, shrinkable
from rsfm_qgis.schema import Field

WHOLE, VISIBLE, POLYGONS, FIXED = range(4)
RASTERS = {"raster", "rasters"}
LONGEST_SHOWN = 60


class AreaEditor(Editor):
    """Its value is "west,south,east,north" or polygons as WKT, in the raster's own CRS; None is all of it."""

    def __init__(self, field: Field, workspace: Workspace, parent: QWidget | None = None) -> None:
        super().__init__(field, workspace, parent)
        self.combo = shrinkable(QComboBox())
        self.combo.addItem(self.tr("Whole raster"), WHOLE)
        if workspace.canvas is not None:
            self.combo.addItem(self.tr("Visible area"), VISIBLE)
        self.layers = shrinkable(QgsMapLayerComboBox())
        self.layers.setFilters(LayerFilter.PolygonLayer)
        self.selected = QCheckBox(self.tr("Selected polygons only"))
        if not field.details.get("rectangle"):
            self.combo.addItem(self.tr("Polygons of a layer"), POLYGONS)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        for widget in (self.combo, self.layers, self.selected):
            layout.addWidget(widget)
        self._fixed = ""
        self._raster: Any = None
        self.combo.currentIndexChanged.connect(self._choose)
        self.layers.layerChanged.connect(self.changed)
        self.selected.toggled.connect(self.changed)
        self._choose()

    def value(self) -> Any:
        how = self.combo.currentData()
        if how == FIXED:
            return self._fixed
        if how == POLYGONS:
            return self._polygons()
        return self._visible() if how == VISIBLE else None

    def set_value(self, value: Any) -> None:
        self._fixed = value or ""
        at = self.combo.findData(FIXED)
        if at >= 0:
            self.combo.removeItem(at)
        if self._fixed:
            self.combo.addItem(self._fixed if len(self._fixed) <= LONGEST_SHOWN else self.tr("As given"), FIXED)
        self.combo.setCurrentIndex(self.combo.findData(FIXED if self._fixed else WHOLE))

    def connect_to(self, siblings: dict[str, Any]) -> None:
        self._raster = next((each for each in siblings.values() if each.field.kind in RASTERS), None)

    def _choose(self, _index: int = 0) -> None:
        for widget in (self.layers, self.selected):
            widget.setVisible(self.combo.currentData() == POLYGONS)
        self.changed.emit()

    def _crs(self, otherwise: QgsCoordinateReferenceSystem) -> QgsCoordinateReferenceSystem:
        """Return the raster's CRS; another one as long as there is no raster."""
        crs = self._raster.crs() if self._raster is not None else otherwise
        return crs if crs is not None and crs.isValid() else otherwise

    def _visible(self) -> str:
        crs = self.workspace.canvas.mapSettings().destinationCrs()
        if self._names_several():
            crs = numbered(crs)
            return f"SRID={number(crs)};{self._box(crs).asWktPolygon()}"
        box = self._box(self._crs(crs))
        edges = (box.xMinimum(), box.yMinimum(), box.xMaximum(), box.yMaximum())
        return ",".join(f"{edge:.12g}" for edge in edges)

    def _names_several(self) -> bool:
        """Tell whether rasters of several CRSs may be meant."""
        return self._raster is not None and str(self._raster.value()).endswith(SUFFIX)

    def _box(self, crs: QgsCoordinateReferenceSystem) -> QgsRectangle:
        canvas = self.workspace.canvas
        transform = QgsCoordinateTransform(canvas.mapSettings().destinationCrs(), crs, self.workspace.project)
        try:
            return transform.transformBoundingBox(canvas.extent())
        except QgsCsException as error:
            raise InputError(self.tr("The visible area cannot be expressed in the raster's CRS.")) from error

    def _polygons(self) -> str:
        """Return the polygons of the layer as it is now, edits and filter included."""
        layer = self.layers.currentLayer()
        if layer is None:
            raise InputError(self.tr("The project has no polygon layer. Add one, or choose another area."))
        only = self.selected.isChecked()
        shapes = [feature.geometry() for feature in (layer.getSelectedFeatures() if only else layer.getFeatures())]
        if not shapes:
            reason = (
                self.tr("No polygon is selected in \u201c{0}\u201d.") if only else self.tr("\u201c{0}\u201d is empty.")
            )
            raise InputError(reason.format(layer.name()))
        crs = None if self._names_several() else self._crs(layer.crs())
        try:
            return polygons_text(shapes, layer.crs(), crs, self.workspace.project.transformContext())
        except QgsCsException as error:
            raise InputError(
                self.tr("\u201c{0}\u201d cannot be expressed in the raster's CRS.").format(layer.name())
            ) from error
