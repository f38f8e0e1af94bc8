"""Settings > Options > RSFM: the backend's Python, the folder of runs, the device, how runs behave, a test."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsProject
from qgis.gui import QgsFileWidget, QgsOptionsPageWidget, QgsOptionsWidgetFactory
from qgis.PyQt.QtGui import QIcon
from qgis.PyQt.QtWidgets import QCheckBox, QComboBox, QFormLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from rsfm_qgis import paths, settings
from rsfm_qgis.client import BackendClient
from rsfm_qgis.gui.device_chip import device_title
from rsfm_qgis.gui.doctor_window import open_doctor
from rsfm_qgis.gui.editor import shrinkable

PAGE = "RsfmOptions"


class OptionsFactory(QgsOptionsWidgetFactory):
    """Makes the page each time the options are opened."""

    def __init__(self, client: BackendClient) -> None:
        super().__init__("RSFM", QIcon(paths.icon("rsfm")))
        self._client = client

    def createWidget(self, parent: QWidget | None = None) -> QgsOptionsPageWidget:
        return OptionsPage(self._client, parent)


class OptionsPage(QgsOptionsPageWidget):
    """Edits the settings; nothing changes until the options are accepted, except that the test uses what is shown."""

    def __init__(self, client: BackendClient, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName(PAGE)
        self._client = client
        self.python = QgsFileWidget()
        self.python.setFilePath(settings.read(settings.PYTHON))
        self.python.lineEdit().setPlaceholderText(str(paths.backend_python() or self.tr("not found")))
        self.runs = QgsFileWidget()
        self.runs.setStorageMode(QgsFileWidget.StorageMode.GetDirectory)
        self.runs.setFilePath(settings.read(settings.RUNS_FOLDER))
        self.runs.lineEdit().setPlaceholderText(str(paths.runs_folder(QgsProject.instance())))
        self.device = shrinkable(QComboBox())
        self.previews = QCheckBox(self.tr("Show maps while they are made, what is on the screen first"))
        self.previews.setChecked(settings.read(settings.PREVIEWS) != "no")
        self.queue = shrinkable(QComboBox())
        self._list_queues()
        self.awake = QCheckBox(self.tr("Keep the computer awake while a run goes on"))
        self.awake.setChecked(settings.read(settings.KEEP_AWAKE) != "no")
        self.doctor = QPushButton(self.tr("Check the Devices\u2026"))
        self.test = QPushButton(self.tr("Test the Backend"))
        self.answer = QLabel()
        self.answer.setWordWrap(True)
        self._lay_out()
        self._list_devices()
        self.test.clicked.connect(self._test)
        self.doctor.clicked.connect(self._open_doctor)
        client.hello.connect(self._show_hello)
        client.stopped.connect(self._show_problem)

    def apply(self) -> None:
        """Keep the settings; another Python means another server."""
        before = paths.backend_python()
        settings.write(settings.PYTHON, self.python.filePath())
        settings.write(settings.RUNS_FOLDER, self.runs.filePath())
        settings.write(settings.DEVICE, self.device.currentData() or "")
        settings.write(settings.PREVIEWS, "" if self.previews.isChecked() else "no")
        settings.write(settings.QUEUE, self.queue.currentData() or "")
        settings.write(settings.KEEP_AWAKE, "" if self.awake.isChecked() else "no")
        if paths.backend_python() != before:
            self._client.restart()

    def _lay_out(self) -> None:
        form = QFormLayout()
        form.addRow(self.tr("Python of the backend"), self.python)
        form.addRow(self.tr("Folder of runs"), self.runs)
        form.addRow(self.tr("Device"), self.device)
        form.addRow(self.tr("Runs wait"), self.queue)
        form.addRow("", self.awake)
        form.addRow("", self.previews)
        form.addRow(self.test, self.answer)
        form.addRow(self.doctor)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(form)
        layout.addStretch()

    def _list_queues(self) -> None:
        self.queue.addItem(self.tr("On a GPU for any other; on the CPU trainings for each other"), "")
        self.queue.addItem(self.tr("On any device for any other"), "all")
        self.queue.addItem(self.tr("Never: they share the device"), "never")
        self.queue.setCurrentIndex(max(0, self.queue.findData(settings.read(settings.QUEUE))))

    def _open_doctor(self) -> None:
        open_doctor(self.window())

    def _list_devices(self) -> None:
        chosen = self.device.currentData() or settings.read(settings.DEVICE)
        self.device.clear()
        self.device.addItem(self.tr("Automatic: the GPU with the most free memory"), "")
        for device in self._client.devices:
            self.device.addItem(device_title(device), device["name"])
        if chosen and self.device.findData(chosen) < 0:
            self.device.addItem(chosen, chosen)
        self.device.setCurrentIndex(max(0, self.device.findData(chosen)))

    def _test(self) -> None:
        settings.write(settings.PYTHON, self.python.filePath())
        self.answer.setText(self.tr("Starting the backend\u2026"))
        self._client.restart()

    def _show_hello(self, hello: dict[str, Any]) -> None:
        titles = ", ".join(device_title(device) for device in hello["devices"])
        self.answer.setText(
            self.tr("Backend {0}, protocol {1}: {2}").format(hello["version"], hello["protocol"], titles)
        )
        self._list_devices()

    def _show_problem(self, reason: str) -> None:
        self.answer.setText(reason)
