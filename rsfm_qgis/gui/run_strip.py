"""The runs below the pages: state, percent, time left, device, and what can be done with each. Never modal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qgis.core import QgsApplication
from qgis.PyQt.QtCore import Qt, QTimer, pyqtSignal
from qgis.PyQt.QtGui import QPalette
from qgis.PyQt.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QScrollArea,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from rsfm_qgis.gui.chart_place import has_chart
from rsfm_qgis.gui.elided_label import ElidedLabel
from rsfm_qgis.runs import RunList, RunState, local_time

ROWS = 3
HISTORY_ROWS = 100
ASK_AFTER_SECONDS = 60
ASK_FOR_MILLISECONDS = 5000
DISCARD = "\u2715"
THEME_ICONS = {
    "starting": "/mTaskQueued.svg",
    "waiting": "/mTaskQueued.svg",
    "running": "/mTaskRunning.svg",
    "done": "/mTaskComplete.svg",
    "stopped": "/mTaskOnHold.svg",
    "cancelled": "/mTaskCancel.svg",
    "failed": "/mTaskTerminated.svg",
    "lost": "/mTaskTerminated.svg",
}


class RunStrip(QWidget):
    """The newest runs, or all of them.

    Signals, with the folder of a run: wants_show, wants_chart, wants_report, wants_log.
    """

    wants_show = pyqtSignal(str)
    wants_chart = pyqtSignal(str)
    wants_report = pyqtSignal(str)
    wants_log = pyqtSignal(str)

    def __init__(self, runs: RunList, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._runs = runs
        self.rows: dict[str, RunRow] = {}
        self.title = QLabel()
        self.history = QToolButton()
        self.history.setText(self.tr("History"))
        self.history.setCheckable(True)
        self.history.setAutoRaise(True)
        self.history.setToolTip(self.tr("Show all runs of this folder"))
        self._column = QVBoxLayout()
        self._lay_out()
        self.history.toggled.connect(self.show_runs)
        runs.listed.connect(self.show_runs)
        runs.changed.connect(self._show_run)
        self.show_runs()

    def show_runs(self) -> None:
        """Show a row for each of the newest runs."""
        shown = self._runs.all()[: HISTORY_ROWS if self.history.isChecked() else ROWS]
        for folder in set(self.rows) - {run.folder for run in shown}:
            row = self.rows.pop(folder)
            row.setParent(None)
            row.deleteLater()
        for index, run in enumerate(shown):
            if run.folder not in self.rows:
                self.rows[run.folder] = RunRow(run.folder, self._runs, self)
            self._column.insertWidget(index, self.rows[run.folder])
            self.rows[run.folder].show_run(run)
        self.title.setText(self.tr("Runs") if shown else self.tr("Runs appear here."))
        self.history.setVisible(len(self._runs.all()) > ROWS)

    def _show_run(self, folder: str) -> None:
        run = self._runs.get(folder)
        if run is not None and folder in self.rows:
            self.rows[folder].show_run(run)
        elif run is not None:
            self.show_runs()

    def _lay_out(self) -> None:
        header = QHBoxLayout()
        header.addWidget(self.title, 1)
        header.addWidget(self.history)
        page = QWidget()
        column = QVBoxLayout(page)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addLayout(self._column)
        column.addStretch()
        self._column.setSpacing(0)
        scroll = QScrollArea()
        scroll.setWidget(page)
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setMinimumHeight(self.fontMetrics().height() * 3)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 0, 6, 2)
        layout.setSpacing(2)
        layout.addLayout(header)
        layout.addWidget(scroll)


class RunRow(QFrame):
    """One run in two lines and its buttons."""

    def __init__(self, folder: str, runs: RunList, strip: RunStrip) -> None:
        super().__init__(strip)
        self._folder, self._runs, self._strip = folder, runs, strip
        self._icon, self._name, self._facts = QLabel(), ElidedLabel(), ElidedLabel()
        self._bar = QProgressBar()
        self._bar.setRange(0, 1000)
        self._bar.setTextVisible(False)
        self._bar.setFixedHeight(5)
        self.stop = self._button(self.tr("Stop"), self.tr("End the run and keep what is done"))
        self.cancel = self._button(self.tr("Cancel"), self.tr("End the run and discard what it made"))
        self.resume = self._button(self.tr("Resume"), self.tr("Go on where the run ended"))
        self.show_button = self._button(self.tr("Show"), self.tr("Show the run's layers on the map"))
        self.chart = self._button(self.tr("Chart"), self.tr("Show how the run's numbers went"))
        self.report = self._button(self.tr("Report"), self.tr("Open the run's report"))
        self.log = self._button(self.tr("Log"), self.tr("Open what the run printed"))
        self.discard = self._button(DISCARD, self.tr("Remove the run and what it made"))
        self._lay_out()
        self.stop.clicked.connect(self._stop)
        self.cancel.clicked.connect(self._cancel)
        self.resume.clicked.connect(self._resume)
        self.show_button.clicked.connect(self._show)
        self.chart.clicked.connect(self._chart)
        self.report.clicked.connect(self._report)
        self.log.clicked.connect(self._log)
        self.discard.clicked.connect(self._discard)

    def show_run(self, run: RunState) -> None:
        """Set all widgets to the state of the run."""
        icon = QgsApplication.getThemeIcon(THEME_ICONS.get(run.state, THEME_ICONS["running"]))
        self._icon.setPixmap(icon.pixmap(16, 16))
        self._name.setText(run.title)
        self._facts.setText(self.facts(run))
        self._facts.setToolTip(run.error or "\n".join([run.sentence, *run.warnings]).strip() or self._facts.text())
        self._bar.setValue(int(run.fraction * 1000))
        self._bar.setVisible(run.is_live)
        self.stop.setVisible(run.is_live)
        self.cancel.setVisible(run.is_live)
        self.resume.setVisible(run.state in {"stopped", "lost"} or (run.state == "failed" and _can_go_on(run)))
        self.show_button.setVisible(run.state in {"done", "stopped"} and _has_layers(run))
        self.chart.setVisible(has_chart(run.folder))
        self.report.setVisible(run.state in {"done", "stopped"} and (Path(run.folder) / "report.html").is_file())
        self.log.setVisible(run.state in {"failed", "lost"})
        self.discard.setVisible(not run.is_live)

    def facts(self, run: RunState) -> str:
        """Say the state in a word, then percent, time left, what it does, and where."""
        words = {
            "starting": self.tr("Starting"),
            "waiting": self.tr("Waiting"),
            "running": self.tr("Running"),
            "done": self.tr("Done"),
            "stopped": self.tr("Stopped"),
            "cancelled": self.tr("Cancelled"),
            "failed": self.tr("Failed"),
            "lost": self.tr("Ended without a word"),
        }
        parts = [words.get(run.state, run.state)]
        if run.is_live and run.fraction:
            parts.append(f"{run.fraction:.0%}".replace("%", " %"))
            if run.eta_seconds is not None:
                parts.append(self.tr("{0} left").format(duration(run.eta_seconds)))
        if run.is_live and run.message:
            parts.append(run.message)
        if not run.is_live:
            parts.append(local_time(run.ended or run.created))
        if run.error:
            parts.append(run.error)
        elif run.sentence:
            parts.append(run.sentence)
        elif run.device:
            parts.append(run.device.upper() if run.device in {"cpu", "mps"} else run.device)
        return " \u00b7 ".join(part for part in parts if part)

    def _lay_out(self) -> None:
        self._facts.setForegroundRole(QPalette.ColorRole.PlaceholderText)
        first = QHBoxLayout()
        first.setSpacing(4)
        first.addWidget(self._icon)
        first.addWidget(self._name, 1)
        ends = (self.stop, self.cancel, self.resume)
        for button in (*ends, self.show_button, self.chart, self.report, self.log, self.discard):
            first.addWidget(button)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 1, 0, 3)
        column.setSpacing(1)
        column.addLayout(first)
        column.addWidget(self._bar)
        column.addWidget(self._facts)

    def _button(self, text: str, help: str) -> QToolButton:
        button = QToolButton()
        button.setText(text)
        button.setToolTip(help)
        button.setAutoRaise(True)
        return button

    def _stop(self) -> None:
        self._runs.stop(self._folder)

    def _cancel(self) -> None:
        """Cancel; ask by a second click when more than a minute of work would go."""
        if not self._asks(self.cancel):
            self._runs.cancel(self._folder)

    def _discard(self) -> None:
        """Remove; ask as for a cancel, and also before something finished goes."""
        run = self._runs.get(self._folder)
        if run is not None and not self._asks(self.discard, run.state in {"done", "stopped"}):
            self._runs.remove(self._folder, self._tell_problem)

    def _asks(self, button: QToolButton, always: bool = False) -> bool:
        """Tell whether a first click has to be confirmed, and turn the button into the question."""
        run = self._runs.get(self._folder)
        asked = button.text() not in {self.tr("Cancel"), DISCARD}
        if run is None or asked or not (always or run.work_seconds > ASK_AFTER_SECONDS):
            self._forget_asking()
            return False
        button.setText(self.tr("Discard {0}?").format(duration(run.work_seconds)))
        QTimer.singleShot(ASK_FOR_MILLISECONDS, self._forget_asking)
        return True

    def _forget_asking(self) -> None:
        self.cancel.setText(self.tr("Cancel"))
        self.discard.setText(DISCARD)

    def _tell_problem(self, _result: Any, error: dict[str, Any] | None) -> None:
        if error is not None:
            self._facts.setText(error["message"])
            self._facts.setToolTip(error["message"])

    def _resume(self) -> None:
        self._runs.resume(self._folder)

    def _show(self) -> None:
        self._strip.wants_show.emit(self._folder)

    def _chart(self) -> None:
        self._strip.wants_chart.emit(self._folder)

    def _report(self) -> None:
        self._strip.wants_report.emit(self._folder)

    def _log(self) -> None:
        self._strip.wants_log.emit(self._folder)


def duration(seconds: float) -> str:
    """Write a time as people do: 8 s, 1 min 8 s, 2 h 5 min."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _can_go_on(run: RunState) -> bool:
    """Tell whether a failed run has got so far that what was wrong can be mended, and the rest be made."""
    checkpoints = Path(run.folder) / "checkpoints"
    return any(path.is_file() for path in checkpoints.rglob("*"))


def _has_layers(run: RunState) -> bool:
    outputs = Path(run.folder) / "outputs"
    return any(any(outputs.glob(pattern)) for pattern in ("*.tif", "*.gpkg", "*/*.tif", "*/*.gpkg"))
