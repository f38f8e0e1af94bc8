"""A file that is no layer."""

from __future__ import annotations

from typing import Any

from qgis.gui import QgsFileWidget
from qgis.PyQt.QtWidgets import QVBoxLayout, QWidget

from rsfm_qgis.gui.editor import Editor, Workspace
from rsfm_qgis.schema import Field


class FileEditor(Editor):
    """Its value is the path of a file, typed, dropped or chosen; an optional one that is empty is None."""

    def __init__(self, field: Field, workspace: Workspace, parent: QWidget | None = None) -> None:
        super().__init__(field, workspace, parent)
        self.chooser = QgsFileWidget()
        self.chooser.setFilter(field.details.get("filter", ""))
        self.chooser.setDialogTitle(self.tr("Choose a File"))
        self.chooser.setFilePath(str(field.default or ""))
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.chooser)
        self.chooser.fileChanged.connect(self._tell)

    def value(self) -> Any:
        path = self.chooser.filePath().strip()
        return None if self.field.optional and not path else path

    def set_value(self, value: Any) -> None:
        self.chooser.setFilePath(str(value or ""))

    def _tell(self, _path: str) -> None:
        self.changed.emit()
