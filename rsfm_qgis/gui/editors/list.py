"""Several values, separated by commas."""

from __future__ import annotations

import json
from typing import Any

from qgis.PyQt.QtWidgets import QLineEdit, QVBoxLayout, QWidget

from rsfm_qgis.gui.editor import Editor, Workspace
from rsfm_qgis.schema import Field


class ListEditor(Editor):
    """Its value is a list of numbers or texts; an optional one that is empty is None."""

    def __init__(self, field: Field, workspace: Workspace, parent: QWidget | None = None) -> None:
        super().__init__(field, workspace, parent)
        self.line = QLineEdit()
        self.line.setPlaceholderText(self.tr("separated by commas"))
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.line)
        self.set_value(field.default)
        self.line.textChanged.connect(self.changed)

    def value(self) -> Any:
        values = read_list(self.line.text())
        return None if self.field.optional and not values else values

    def set_value(self, value: Any) -> None:
        self.line.setText(write_list(value or []))


def read_list(text: str) -> list[Any]:
    """Read values separated by commas: numbers where they are numbers, else texts."""
    return [_read(part.strip()) for part in text.split(",") if part.strip()]


def write_list(values: list[Any]) -> str:
    """Write what `read_list` reads."""
    return ", ".join(value if isinstance(value, str) else json.dumps(value) for value in values)


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
