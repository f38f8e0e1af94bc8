"""Several rasters: the project's collections and raster layers with check boxes, and files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qgis.core import QgsCoordinateReferenceSystem, QgsRasterLayer
from qgis.PyQt.QtCore import QSize, Qt
from qgis.PyQt.QtGui import QIcon
from qgis.PyQt.QtWidgets import QFileDialog, QListWidget, QListWidgetItem, QPushButton, QVBoxLayout, QWidget

from rsfm_qgis import paths
from rsfm_qgis.collection import SUFFIX, title
from rsfm_qgis.gui.editor import Editor, Workspace
from rsfm_qgis.layers import is_picture, is_preview
from rsfm_qgis.schema import Field

SOURCE = Qt.ItemDataRole.UserRole
ROWS_SHOWN = 4


class RastersEditor(Editor):
    """Its value is the list of the checked sources, in the order shown; a collection is one source.

    Until the user checks something, it is the current collection, or the first layer that appears.
    """

    def __init__(self, field: Field, workspace: Workspace, parent: QWidget | None = None) -> None:
        super().__init__(field, workspace, parent)
        self.list = QListWidget()
        self.list.setMaximumHeight(self.list.fontMetrics().height() * (ROWS_SHOWN + 1) + 12)
        self.list.setIconSize(QSize(self.list.fontMetrics().height(), self.list.fontMetrics().height()))
        self.list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.button = QPushButton(self.tr("Add Files\u2026"))
        self.button.clicked.connect(self._pick)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addWidget(self.list)
        layout.addWidget(self.button, 0, Qt.AlignmentFlag.AlignLeft)
        self._is_chosen_by_hand = False
        self._list_sources()
        self.list.itemChanged.connect(self._tell)
        workspace.project.layersAdded.connect(self._list_sources)
        workspace.project.layersRemoved.connect(self._list_sources)
        workspace.collections.listed.connect(self._list_sources)

    def value(self) -> Any:
        return [item.data(SOURCE) for item in self._items() if item.checkState() == Qt.CheckState.Checked]

    def set_value(self, value: Any) -> None:
        self._check_only([])
        for path in value or []:
            self._add(path, _name(path), True)
        self._is_chosen_by_hand = bool(value)

    def crs(self) -> QgsCoordinateReferenceSystem:
        """Return the first checked raster's CRS; invalid where none is checked, as a collection may have several."""
        checked = [source for source in self.value() if not source.endswith(SUFFIX)]
        if not checked:
            return QgsCoordinateReferenceSystem()
        layers = self.workspace.project.mapLayers().values()
        layer = next((layer for layer in layers if layer.source() == checked[0]), None)
        return (layer or QgsRasterLayer(checked[0])).crs()

    def missing(self) -> str:
        if self.field.required and not self.value():
            return str(self.tr("Check a collection or at least one raster here, or add files."))
        return ""

    def _items(self) -> list[QListWidgetItem]:
        return [self.list.item(row) for row in range(self.list.count())]

    def _list_sources(self, _what: Any = None) -> None:
        """Show the collections, then the layers; what was checked stays, even where it is gone from the project."""
        layers = [layer for layer in self.workspace.project.mapLayers().values() if isinstance(layer, QgsRasterLayer)]
        sources = {path: _name(path) for path in self.workspace.collections.all()}
        files = [layer for layer in layers if layer.providerType() == "gdal"]
        imagery = [layer for layer in files if not is_preview(layer) and not is_picture(layer)]
        sources.update({layer.source(): layer.name() for layer in imagery})
        for item in self._items():
            is_wanted = self._is_chosen_by_hand and item.checkState() == Qt.CheckState.Checked
            if item.data(SOURCE) not in sources and not is_wanted:
                self.list.takeItem(self.list.row(item))
        for source, name in sources.items():
            self._add(source, name, False)
        if not self._is_chosen_by_hand:
            self._check_only([self.workspace.collections.current() or next(iter(sources), "")])

    def _check_only(self, paths: list[str]) -> None:
        self.list.blockSignals(True)
        for item in self._items():
            item.setCheckState(Qt.CheckState.Checked if item.data(SOURCE) in paths else Qt.CheckState.Unchecked)
        self.list.blockSignals(False)
        self.changed.emit()

    def _tell(self, _item: Any = None) -> None:
        self._is_chosen_by_hand = True
        self.changed.emit()

    def _add(self, source: str, name: str, checked: bool) -> None:
        item = next((item for item in self._items() if item.data(SOURCE) == source), None)
        if item is None:
            item = QListWidgetItem(name)
            item.setData(SOURCE, source)
            item.setToolTip(source)
            item.setFlags(item.flags() | Qt.ItemFlag.ItemIsUserCheckable)
            item.setCheckState(Qt.CheckState.Unchecked)
            if source.endswith(SUFFIX):
                item.setIcon(QIcon(paths.icon("imagery")))
            self.list.insertItem(self._place(source), item)
        if checked:
            item.setCheckState(Qt.CheckState.Checked)

    def _place(self, source: str) -> int:
        """Return where a new source is listed: collections before layers and files."""
        collections = sum(1 for item in self._items() if item.data(SOURCE).endswith(SUFFIX))
        return collections if source.endswith(SUFFIX) else self.list.count()

    def _pick(self) -> None:
        files, _ = QFileDialog.getOpenFileNames(self, self.tr("Add Rasters"), "", self.tr("Rasters (*)"))
        for path in files:
            self._add(path, _name(path), True)


def _name(path: str) -> str:
    return title(path) if path.endswith(SUFFIX) else Path(path).stem
