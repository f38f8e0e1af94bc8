"""The line before Run: what the job will cost on this machine. It asks the backend a moment after the form changed."""

from __future__ import annotations

from typing import Any

from qgis.PyQt.QtCore import QDateTime, QLocale, QTimer
from qgis.PyQt.QtGui import QShowEvent

from rsfm_qgis import paths
from rsfm_qgis.gui.editor import InputError, Workspace
from rsfm_qgis.gui.form import Form
from rsfm_qgis.gui.hint import Hint

CALM_MILLISECONDS = 600
SEPARATOR = " \u00b7 "


class CostLine(Hint):
    """Empty where there is no backend, or where the form is not filled in."""

    def __init__(self, job: str, form: Form, workspace: Workspace) -> None:
        super().__init__("")
        self._job, self._form, self._workspace = job, form, workspace
        self._question = 0
        self._calm = QTimer(self)
        self._calm.setSingleShot(True)
        self._calm.setInterval(CALM_MILLISECONDS)
        self._calm.timeout.connect(self._ask)
        form.changed.connect(self._wait)
        workspace.client.hello.connect(self._wait)
        workspace.client.stopped.connect(self._forget)
        workspace.runs.ended.connect(self._wait)

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._wait()

    def _wait(self, *_: Any) -> None:
        """Ask when the form has not changed for a moment; what was asked before is no longer wanted."""
        self._question += 1
        self._calm.start()

    def _forget(self, *_: Any) -> None:
        self._question += 1
        self.setText("")

    def _ask(self) -> None:
        if not self.isVisible() or not self._workspace.client.greeting:
            return
        config = self._config()
        if config is None:
            self.setText("")
            return
        self._question += 1
        question = self._question
        busy = any(run.is_live for run in self._workspace.runs.all())
        self.setText("" if busy else self.tr("Measuring\u2026"))

        def answer(plan: Any, error: dict[str, Any] | None) -> None:
            if question == self._question:
                self._show(plan, error, busy)

        folder = str(paths.runs_folder(self._workspace.project))
        asked = {"job": self._job, "config": config, "runs_folder": folder, "measure": not busy}
        self._workspace.client.request("plan", asked, answer)

    def _config(self) -> dict[str, Any] | None:
        if self._form.problem() is not None:
            return None
        try:
            return self._form.values()
        except InputError:
            self._form.clear_marks()  # they are for Run to set
            return None

    def _show(self, plan: dict[str, Any] | None, error: dict[str, Any] | None, busy: bool) -> None:
        if error is not None:
            self.setText(error["message"])
        elif plan is not None:
            self.setText("\n".join([self._line(plan), *plan["warnings"]]))
        else:
            self.setText("")
        self.setToolTip(self.tr("Not measured while another run goes on.") if busy and plan is None else "")

    def _line(self, plan: dict[str, Any]) -> str:
        """Say it in one line, such as "18,400 windows - 640 steps - 1.1 GB memory - done at 14:32"."""
        locale = QLocale()
        if plan["unit"] == "tiles":
            parts = [self.tr("{0} tiles").format(locale.toString(plan["amount"])), duration(plan["seconds"])]
            parts.append(self.tr("{0} on disk").format(locale.formattedDataSize(plan["disk"], 0)))
        else:
            parts = [
                self.tr("{0} windows").format(locale.toString(plan["amount"])),
                self.tr("{0} steps").format(locale.toString(plan["steps"])),
            ]
        if plan["device_memory"]:
            parts.append(self.tr("{0} GPU memory").format(_gigabytes(plan["device_memory"])))
        parts.append(self.tr("{0} memory").format(_gigabytes(plan["memory"])))
        parts.append(self.tr("done at {0}").format(_clock(plan["seconds"])))
        return SEPARATOR.join(parts)


def duration(seconds: float) -> str:
    """Write seconds as people do: "40 s", "12 min", "3 h 20 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def _gigabytes(count: int) -> str:
    return f"{QLocale().toString(count / 1e9, 'f', 1)} GB"


def _clock(seconds: float) -> str:
    """Tell when something that starts now is done: the hour, with the day where it is not today's."""
    done = QDateTime.currentDateTime().addSecs(int(seconds))
    today = QDateTime.currentDateTime().date() == done.date()
    return str(QLocale().toString(done, "HH:mm" if today else "ddd d MMM HH:mm"))
