"""A layer of the project or a file beside it, as one row: a layer combo box and a button."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qgis.core import QgsMapLayer, QgsProject, QgsProviderRegistry
from qgis.gui import QgsMapLayerComboBox
from qgis.PyQt.QtCore import pyqtSignal
from qgis.PyQt.QtWidgets import QFileDialog, QHBoxLayout, QToolButton, QWidget

from rsfm_qgis.gui.editor import shrinkable
from rsfm_qgis.layers import is_preview


class LayerChoice(QWidget):
    """Shows the project's layers of one sort but previews, and files that were picked."""

    changed = pyqtSignal()

    def __init__(self, filters: Any, providers: set[str], file_filter: str, allow_empty: bool) -> None:
        super().__init__()
        self._file_filter = file_filter
        self._offered: dict[str, str] = {}
        self._left_out = 0
        self.combo = shrinkable(QgsMapLayerComboBox())
        self.combo.setFilters(filters)
        known = QgsProviderRegistry.instance().providerList()
        self.combo.setExcludedProviders([name for name in known if name not in providers])
        self.combo.setAllowEmptyLayer(allow_empty)
        if allow_empty:
            self.combo.setLayer(None)  # nothing, until something is chosen
        self.button = QToolButton()
        self.button.setText("\u2026")
        self.button.setToolTip(self.tr("Choose a file"))
        self.button.clicked.connect(self._pick)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.combo)
        layout.addWidget(self.button)
        self._leave_out_previews()
        QgsProject.instance().layersAdded.connect(self._leave_out_previews)
        QgsProject.instance().layersRemoved.connect(self._leave_out_previews)
        self.combo.layerChanged.connect(self._tell)
        self.combo.currentTextChanged.connect(self._tell)

    def layer(self) -> QgsMapLayer | None:
        """Return the chosen layer of the project; None where a file or nothing is chosen."""
        return self.combo.currentLayer()

    def file(self) -> str:
        """Return the chosen file, empty where a layer or nothing is chosen."""
        text = self.combo.currentText()
        is_file = self.layer() is None and text in self.combo.additionalItems()
        return self._offered.get(text, text) if is_file else ""

    def offer(self, files: dict[str, str]) -> None:
        """List files by names, besides the layers and what was picked; what is chosen stays if it is still there."""
        chosen = self.file()
        picked = [item for item in self.combo.additionalItems() if item not in self._offered]
        self._offered = dict(files)
        self.combo.blockSignals(True)
        self.combo.setAdditionalItems([*files, *picked])
        self.combo.blockSignals(False)
        if chosen in files.values() or chosen in picked:
            self.choose(chosen)

    def choose(self, path: str) -> None:
        """Choose the layer with this source, or else the file."""
        model = self.combo.model()
        for row in range(self.combo.count()):
            layer = self.combo.layer(row)
            if layer is not None and same_file(layer.source(), path):
                self.combo.setCurrentIndex(row)
                return
        if not path:
            self.combo.setLayer(None)
            return
        text = next((name for name, file in self._offered.items() if file == path), path)
        self.combo.setAdditionalItems(list(dict.fromkeys([*self.combo.additionalItems(), text])))
        self.combo.setCurrentIndex(max(row for row in range(model.rowCount()) if self.combo.itemText(row) == text))

    def _leave_out_previews(self, _changed: Any = None) -> None:
        """Leave out what will be gone when its run has ended."""
        previews = [layer for layer in QgsProject.instance().mapLayers().values() if is_preview(layer)]
        if previews or self._left_out:
            self.combo.setExceptedLayerList(previews)
        self._left_out = len(previews)

    def _pick(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, self.tr("Choose a File"), "", self._file_filter)
        if path:
            self.choose(path)

    def _tell(self, _value: Any) -> None:
        self.changed.emit()


def same_file(source: str, path: str) -> bool:
    """Tell whether a layer's source is the file, whatever follows the path."""
    if source == path:
        return True
    return "|" not in path and bool(path) and Path(source.split("|")[0]) == Path(path)
