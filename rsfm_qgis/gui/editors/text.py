"""A text."""

from __future__ import annotations

from typing import Any

from qgis.PyQt.QtWidgets import QLineEdit, QVBoxLayout, QWidget

from rsfm_qgis.gui.editor import Editor, Workspace
from rsfm_qgis.schema import Field


class TextEditor(Editor):
    """One line; an optional one that is empty is None."""

    def __init__(self, field: Field, workspace: Workspace, parent: QWidget | None = None) -> None:
        super().__init__(field, workspace, parent)
        self.line = QLineEdit(str(field.default or ""))
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.line)
        self.line.textChanged.connect(self.changed)

    def value(self) -> Any:
        text = self.line.text().strip()
        return None if self.field.optional and not text else text

    def set_value(self, value: Any) -> None:
        self.line.setText(str(value or ""))
