"""One of a few values."""

from __future__ import annotations

from typing import Any

from qgis.PyQt.QtWidgets import QComboBox, QVBoxLayout, QWidget

from rsfm_qgis.gui.editor import Editor, Workspace, shrinkable
from rsfm_qgis.schema import Field


class OptionEditor(Editor):
    """A combo box of the values' titles."""

    def __init__(self, field: Field, workspace: Workspace, parent: QWidget | None = None) -> None:
        super().__init__(field, workspace, parent)
        self.combo = shrinkable(QComboBox())
        if field.optional:
            self.combo.addItem(self.tr("None"), None)
        for choice in field.choices:
            self.combo.addItem(choice.title, choice.value)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.combo)
        self.set_value(field.default)
        self.combo.currentIndexChanged.connect(self.changed)

    def value(self) -> Any:
        return self.combo.currentData()

    def set_value(self, value: Any) -> None:
        self.combo.setCurrentIndex(max(0, self.combo.findData(value)))
