"""What `rsfm doctor` finds, in a window that blocks nothing: which devices compute, and why others do not."""

from __future__ import annotations

from qgis.core import Qgis, QgsApplication, QgsProject
from qgis.PyQt.QtCore import QProcess, Qt
from qgis.PyQt.QtGui import QCloseEvent, QFontDatabase
from qgis.PyQt.QtWidgets import QDialog, QDialogButtonBox, QPlainTextEdit, QPushButton, QVBoxLayout, QWidget

from rsfm_qgis import paths


class DoctorWindow(QDialog):
    """Runs the doctor as a process of its own, and shows its words. Goes when it is closed, and its process with it."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("RsfmDoctor")
        self.setWindowTitle(self.tr("RSFM: Devices and Versions"))
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.text = QPlainTextEdit()
        self.text.setReadOnly(True)
        self.text.setFont(QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont))
        self.again = QPushButton(self.tr("Check Again"))
        self.copy = QPushButton(self.tr("Copy"))
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
        buttons.addButton(self.again, QDialogButtonBox.ButtonRole.ActionRole)
        buttons.addButton(self.copy, QDialogButtonBox.ButtonRole.ActionRole)
        layout = QVBoxLayout(self)
        layout.addWidget(self.text)
        layout.addWidget(buttons)
        self.resize(760, 420)
        self._process = QProcess(self)
        self._process.setProcessEnvironment(paths.backend_environment())
        self._process.finished.connect(self._show_end)
        self._process.errorOccurred.connect(self._show_failure)
        buttons.rejected.connect(self.close)
        self.again.clicked.connect(self.check)
        self.copy.clicked.connect(self._copy)

    def check(self) -> None:
        """Ask the doctor."""
        python = paths.backend_python()
        if python is None:
            self.text.setPlainText(
                self.tr("The backend is not installed. Choose its Python under Settings > Options > RSFM.")
            )
            return
        self.again.setEnabled(False)
        self.text.setPlainText(self.tr("Each device multiplies two matrices\u2026"))
        runs = str(paths.runs_folder(QgsProject.instance()))
        self._process.start(str(python), paths.backend_arguments("doctor", "--runs", runs))

    def closeEvent(self, event: QCloseEvent) -> None:
        self._process.finished.disconnect(self._show_end)
        self._process.errorOccurred.disconnect(self._show_failure)
        self._process.kill()
        super().closeEvent(event)

    def _show_end(self, _code: int, _status: object) -> None:
        self.again.setEnabled(True)
        said = bytes(self._process.readAllStandardOutput()).decode(errors="replace").strip()
        problem = bytes(self._process.readAllStandardError()).decode(errors="replace").strip()
        self.text.setPlainText("\n".join([said or problem, "", f"QGIS {Qgis.QGIS_VERSION}"]))

    def _show_failure(self, error: object) -> None:
        if error == QProcess.ProcessError.FailedToStart:
            self.again.setEnabled(True)
            text = self.tr("The backend's Python could not be started: {0}")
            self.text.setPlainText(text.format(self._process.errorString()))

    def _copy(self) -> None:
        QgsApplication.clipboard().setText(self.text.toPlainText())


def open_doctor(parent: QWidget | None) -> DoctorWindow:
    """Show the doctor's window, and let it check."""
    window = DoctorWindow(parent)
    window.show()
    window.check()
    return window
