"""Says which device will work, and why it is the CPU where it is; its menu has the others and the options."""

from __future__ import annotations

from typing import Any, Callable

from qgis.core import QgsApplication
from qgis.PyQt.QtWidgets import QGridLayout, QLabel, QMenu, QToolButton, QWidget

from rsfm_qgis.client import BackendClient
from rsfm_qgis.gui.doctor_window import open_doctor
from rsfm_qgis.gui.elided_label import ElidedLabel
from rsfm_qgis.gui.hint import Hint

COLOURS = {"gpu": "#009e73", "cpu": "#e69f00", "none": "#d55e00", "wait": "#999999"}  # Okabe-Ito


class DeviceChip(QWidget):
    """One line on the device, one on what is wrong."""

    def __init__(self, client: BackendClient, open_options: Callable[[], None], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._client, self._open_options = client, open_options
        self._dot, self.text, self.reason = QLabel("\u25cf"), ElidedLabel(), Hint()
        self.button = QToolButton()
        self.button.setIcon(QgsApplication.getThemeIcon("/mActionOptions.svg"))
        self.button.setToolTip(self.tr("Devices and options"))
        self.button.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self.button.setAutoRaise(True)
        self._menu = QMenu(self)
        self.button.setMenu(self._menu)
        layout = QGridLayout(self)
        layout.setContentsMargins(6, 2, 6, 0)
        layout.setVerticalSpacing(0)
        layout.addWidget(self._dot, 0, 0)
        layout.addWidget(self.text, 0, 1)
        layout.addWidget(self.button, 0, 2)
        layout.addWidget(self.reason, 1, 0, 1, 3)
        layout.setColumnStretch(1, 1)
        client.hello.connect(self._show_devices)
        client.stopped.connect(self._show_problem)
        self._set("wait", self.tr("Starting the backend\u2026"), "")

    def _show_devices(self, _hello: dict[str, Any]) -> None:
        best = self._client.devices[0]
        sort = "cpu" if best["name"] == "cpu" else "gpu"
        self._set(sort, device_title(best), best.get("why", ""))

    def _show_problem(self, reason: str) -> None:
        if reason:
            self._set("none", self.tr("No backend"), reason)

    def _set(self, sort: str, text: str, reason: str) -> None:
        self._dot.setStyleSheet(f"color: {COLOURS[sort]};")
        self.text.setText(text)
        self.reason.setText(reason)
        self.reason.setVisible(bool(reason))
        self._menu.clear()
        for device in self._client.devices:
            self._menu.addAction(device_title(device)).setEnabled(False)
        self._menu.addSeparator()
        self._menu.addAction(self.tr("Check the Devices\u2026"), self._open_doctor)
        self._menu.addAction(self.tr("Restart the Backend"), self._client.restart)
        self._menu.addAction(self.tr("Options\u2026"), self._open_options)

    def _open_doctor(self) -> None:
        open_doctor(self.window())


def device_title(device: dict[str, Any]) -> str:
    """Name a device with its memory."""
    free, whole = device["free"] / 2**30, device["memory"] / 2**30
    return f"{device['title']} \u00b7 {free:.1f} of {whole:.1f} GB free"
