"""An attribute of the polygons chosen beside it."""

from __future__ import annotations

from typing import Any

from qgis.gui import QgsFieldComboBox
from qgis.PyQt.QtWidgets import QVBoxLayout, QWidget

from rsfm_qgis.gui.editor import Editor, Workspace, shrinkable
from rsfm_qgis.schema import Field


class FieldEditor(Editor):
    """Its value is the attribute's name; it is looked for in the form's vector parameter."""

    def __init__(self, field: Field, workspace: Workspace, parent: QWidget | None = None) -> None:
        super().__init__(field, workspace, parent)
        self.combo = shrinkable(QgsFieldComboBox())
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.combo)
        self._wanted = field.default or ""
        self._may_be_empty = field.default == ""
        self.combo.setAllowEmptyFieldName(self._may_be_empty)
        self._vector: Any = None
        self.combo.fieldChanged.connect(self._tell)

    def value(self) -> Any:
        return self.combo.currentField() or self._wanted or ("" if self._may_be_empty else None)

    def set_value(self, value: Any) -> None:
        self._wanted = value or ""
        self._show_wanted()

    def connect_to(self, siblings: dict[str, Any]) -> None:
        first = next((each for each in siblings.values() if each.field.kind == "vector"), None)
        self._vector = siblings.get(self.field.details.get("of", ""), first)
        if self._vector is not None:
            self._vector.changed.connect(self._take_layer)
            self._take_layer()

    def _take_layer(self) -> None:
        if self._vector is not None:
            self.combo.setLayer(self._vector.layer())
            self._show_wanted()

    def _show_wanted(self) -> None:
        if self.combo.fields().indexFromName(self._wanted) >= 0:
            self.combo.setField(self._wanted)

    def _tell(self, _name: str) -> None:
        self.changed.emit()
