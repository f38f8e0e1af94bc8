"""Several rasters: the project's raster layers with check boxes, and files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qgis.core import QgsCoordinateReferenceSystem, QgsRasterLayer
from qgis.PyQt.QtCore import Qt
from qgis.PyQt.QtWidgets import QFileDialog, QListWidget, QListWidgetItem, QPushButton, QVBoxLayout, QWidget

from rsfm_qgis.gui.editor import Editor, Workspace
from rsfm_qgis.schema import Field

SOURCE = Qt.ItemDataRole.UserRole
ROWS_SHOWN = 4


class RastersEditor(Editor):
    """Its value is the list of the checked sources, in the order shown. The first layer that appears is checked."""

    def __init__(self, field: Field, workspace: Workspace, parent: QWidget | None = None) -> None:
        super().__init__(field, workspace, parent)
        self.list = QListWidget()
        self.list.setMaximumHeight(self.list.fontMetrics().height() * (ROWS_SHOWN + 1) + 12)
        self.list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.button = QPushButton(self.tr("Add Files\u2026"))
        self.button.clicked.connect(self._pick)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addWidget(self.list)
        layout.addWidget(self.button, 0, Qt.AlignmentFlag.AlignLeft)
        self._list_layers()
        self.list.itemChanged.connect(self.changed)
        workspace.project.layersAdded.connect(self._list_layers)
        workspace.project.layersRemoved.connect(self._list_layers)

    def value(self) -> Any:
        return [item.data(SOURCE) for item in self._items() if item.checkState() == Qt.CheckState.Checked]

    def set_value(self, value: Any) -> None:
        for item in self._items():
            item.setCheckState(Qt.CheckState.Unchecked)
        for path in value or []:
            self._add(path, Path(path).stem, True)

    def crs(self) -> QgsCoordinateReferenceSystem:
        """Return the first checked raster's CRS; invalid where none is checked."""
        checked = self.value()
        if not checked:
            return QgsCoordinateReferenceSystem()
        layers = self.workspace.project.mapLayers().values()
        layer = next((layer for layer in layers if layer.source() == checked[0]), None)
        return (layer or QgsRasterLayer(checked[0])).crs()

    def missing(self) -> str:
        if self.field.required and not self.value():
            return str(self.tr("Check at least one raster here, or add files."))
        return ""

    def _items(self) -> list[QListWidgetItem]:
        return [self.list.item(row) for row in range(self.list.count())]

    def _list_layers(self, _layers: Any = None) -> None:
        layers = [layer for layer in self.workspace.project.mapLayers().values() if isinstance(layer, QgsRasterLayer)]
        sources = {layer.source(): layer.name() for layer in layers if layer.providerType() == "gdal"}
        for item in self._items():
            if item.data(SOURCE) not in sources and item.checkState() != Qt.CheckState.Checked:
                self.list.takeItem(self.list.row(item))
        for source, name in sources.items():
            if not any(item.data(SOURCE) == source for item in self._items()):
                self._add(source, name, self.list.count() == 0)

    def _add(self, source: str, name: str, checked: bool) -> None:
        item = next((item for item in self._items() if item.data(SOURCE) == source), None)
        if item is None:
            item = QListWidgetItem(name)
            item.setData(SOURCE, source)
            item.setToolTip(source)
            item.setFlags(item.flags() | Qt.ItemFlag.ItemIsUserCheckable)
            item.setCheckState(Qt.CheckState.Unchecked)
            self.list.addItem(item)
        if checked:
            item.setCheckState(Qt.CheckState.Checked)
        self.changed.emit()

    def _pick(self) -> None:
        paths, _ = QFileDialog.getOpenFileNames(self, self.tr("Add Rasters"), "", self.tr("Rasters (*)"))
        for path in paths:
            self._add(path, Path(path).stem, True)
