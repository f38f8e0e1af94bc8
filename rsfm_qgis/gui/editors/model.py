"""A model: one that a run made, or a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qgis.PyQt.QtWidgets import QComboBox, QFileDialog, QHBoxLayout, QToolButton, QWidget

from rsfm_qgis.gui.editor import Editor, Workspace, shrinkable
from rsfm_qgis.records import Model
from rsfm_qgis.schema import Field


class ModelEditor(Editor):
    """Its value is the path of a model file. The newest one is chosen until the user chooses another.

    An optional model starts empty, unless the schema says what it `needs`.
    """

    def __init__(self, field: Field, workspace: Workspace, parent: QWidget | None = None) -> None:
        super().__init__(field, workspace, parent)
        self.combo = shrinkable(QComboBox())
        self.button = QToolButton()
        self.button.setText("\u2026")
        self.button.setToolTip(self.tr("Choose a model file"))
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.combo)
        layout.addWidget(self.button)
        self._files: list[str] = []
        self._chosen_by_hand = field.optional and "needs" not in field.details
        self._list_models()
        self.combo.currentIndexChanged.connect(self.changed)
        self.combo.activated.connect(self._keep_choice)
        self.button.clicked.connect(self._pick)
        workspace.runs.models_changed.connect(self._list_models)

    def value(self) -> Any:
        return self.combo.currentData() or None

    def set_value(self, value: Any) -> None:
        path = value or ""
        if path and self.combo.findData(path) < 0:
            self._files.append(path)
            self._list_models()
        self._keep_choice()
        self.combo.setCurrentIndex(self.combo.findData(path))

    def missing(self) -> str:
        if self.field.required and self.value() is None:
            return str(self.tr("There is no model yet. Make one on the page before, or choose a file."))
        return ""

    def _list_models(self) -> None:
        chosen = self.value()
        self.combo.blockSignals(True)
        self.combo.clear()
        if self.field.optional:
            self.combo.addItem(self.tr("None"), "")
        for model in self.workspace.runs.models():
            if self._fits(model):
                self.combo.addItem(model.title, model.path)
        for path in self._files:
            self.combo.addItem(Path(path).stem, path)
        if self._chosen_by_hand:
            self.combo.setCurrentIndex(max(0, self.combo.findData(chosen or "")))
        elif self.combo.count() > 1:
            self.combo.setCurrentIndex(1 if self.field.optional else 0)
        self.combo.blockSignals(False)
        if self.value() != chosen:
            self.changed.emit()

    def _fits(self, model: Model) -> bool:
        return self.field.details.get("needs", "encoder") in model.serves

    def _keep_choice(self, _index: int = 0) -> None:
        self._chosen_by_hand = True

    def _pick(self) -> None:
        filter = self.tr("Models (*.safetensors)")
        path, _ = QFileDialog.getOpenFileName(self, self.tr("Choose a Model"), "", filter)
        if path:
            self.set_value(path)
