"""The device that does the work, among those the backend found."""

from __future__ import annotations

from typing import Any

from qgis.PyQt.QtWidgets import QComboBox, QVBoxLayout, QWidget

from rsfm_qgis import settings
from rsfm_qgis.gui.editor import Editor, Workspace, shrinkable
from rsfm_qgis.schema import Field


class DeviceEditor(Editor):
    """Its value is a device's name, or "auto". The one kept in the options is chosen first."""

    def __init__(self, field: Field, workspace: Workspace, parent: QWidget | None = None) -> None:
        super().__init__(field, workspace, parent)
        self.combo = shrinkable(QComboBox())
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.combo)
        self._list_devices()
        self.set_value(settings.read(settings.DEVICE) or field.default)
        self.combo.currentIndexChanged.connect(self.changed)
        workspace.client.hello.connect(self._list_devices)

    def value(self) -> Any:
        return self.combo.currentData()

    def set_value(self, value: Any) -> None:
        if value and self.combo.findData(value) < 0:
            self.combo.addItem(value, value)
        self.combo.setCurrentIndex(max(0, self.combo.findData(value)))

    def _list_devices(self, _hello: Any = None) -> None:
        chosen = self.value()
        self.combo.blockSignals(True)
        self.combo.clear()
        self.combo.addItem(self.tr("Automatic"), "auto")
        for device in self.workspace.client.devices:
            self.combo.addItem(device["title"], device["name"])
        self.set_value(chosen)
        self.combo.blockSignals(False)
