"""The runs as the plugin sees them: lists their folders, follows the live ones, starts, stops and resumes.

The folders are the truth: after a crash of the server or of QGIS the list is read again and live runs are attached.
"""

from __future__ import annotations

import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

from qgis.PyQt.QtCore import QObject, QProcess, QTimer, pyqtSignal

from rsfm_qgis import paths, settings
from rsfm_qgis.client import Answer, BackendClient
from rsfm_qgis.live_runs import LiveRuns
from rsfm_qgis.records import ENDED, Model, Output, find_models, read_output, read_record, read_run

REFRESH_MILLISECONDS = 5000
RECONNECT_MILLISECONDS = 1000
RECONNECTS = 3
COME_UP_SECONDS = 60


class RunState(NamedTuple):
    """What is known of a run.

    Attributes:
        sentence: its result in words.
        error_field: the parameter its error concerns.
        started: when its process began to work, the last time.
        worked: seconds that its processes had worked before that.
    """

    folder: str
    job: str = ""
    title: str = ""
    state: str = "starting"
    created: str = ""
    ended: str = ""
    device: str = ""
    fraction: float = 0.0
    message: str = ""
    eta_seconds: float | None = None
    outputs: tuple[Output, ...] = ()
    previews: tuple[Output, ...] = ()
    warnings: tuple[str, ...] = ()
    sentence: str = ""
    error: str = ""
    error_field: str = ""
    started: str = ""
    worked: float = 0.0

    @property
    def is_live(self) -> bool:
        """Tell whether its process is at work."""
        return self.state not in ENDED

    @property
    def work_seconds(self) -> float:
        """How long it has been worked on: what would go if it were discarded."""
        if not self.started or self.state in {"starting", "waiting"}:
            return self.worked
        end = _moment(self.ended) if self.ended and not self.is_live else datetime.now(timezone.utc)
        return self.worked + max(0.0, (end - _moment(self.started)).total_seconds())


class Resumed(NamedTuple):
    """A run that was asked to go on: when it had started before, and until when its process may take to come up."""

    started_before: str
    deadline: float


class RunList(QObject):
    """Runs by folder, newest first.

    Signals:
        listed: runs came or went.
        changed: folder of a run that has news.
        ended: folder of a run that ended while it was followed.
        models_changed: there are other model files than before.
    """

    listed = pyqtSignal()
    changed = pyqtSignal(str)
    ended = pyqtSignal(str)
    models_changed = pyqtSignal()

    def __init__(self, client: BackendClient, project: Any, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._client, self._project = client, project
        self._runs: dict[str, RunState] = {}
        self._attached: set[str] = set()
        self._models: dict[str, tuple[Model, ...]] = {}
        self._resumed: dict[str, Resumed] = {}
        self._live = LiveRuns(paths.live_runs())
        self._elsewhere = self._live.read()
        self._reconnects = 0
        self._timer = QTimer(self)
        self._timer.setInterval(REFRESH_MILLISECONDS)
        self._timer.timeout.connect(self.refresh)
        client.hello.connect(self._on_hello)
        client.reported.connect(self._on_event)
        client.stopped.connect(self._on_stopped)

    def watch(self, on: bool) -> None:
        """Look for runs that others started, every few seconds, while somebody looks."""
        if on:
            self._timer.start()
        else:
            self._timer.stop()

    def all(self) -> list[RunState]:
        """Return every run, newest first."""
        return sorted(self._runs.values(), key=lambda run: (run.created, run.folder), reverse=True)

    def get(self, folder: str) -> RunState | None:
        """Return a run."""
        return self._runs.get(folder)

    def models(self) -> list[Model]:
        """Return the model files of all runs, newest run first."""
        return [
            model._replace(title=f"{model.title} \u00b7 {local_time(run.created)}")
            for run in self.all()
            for model in self._models.get(run.folder, ())
        ]

    def start(
        self, job: str, config: dict[str, Any], title: str, answer: Answer, look: dict[str, Any] | None = None
    ) -> None:
        """Start a run; `answer` gets {"run": its folder} or the error. `look` asks for previews (`looks.py`)."""

        def started(result: Any, error: dict[str, Any] | None) -> None:
            if error is None:
                known = self._runs.get(result["run"], RunState(result["run"]))
                self._runs[result["run"]] = known._replace(job=job, title=title)
                self._attached.add(result["run"])
                self.listed.emit()
                self.refresh()
            answer(result, error)

        folder = str(paths.runs_folder(self._project))
        keep_awake = settings.read(settings.KEEP_AWAKE) != "no"
        options = {"queue": settings.read(settings.QUEUE) or None, "keep_awake": keep_awake}
        said = {"job": job, "config": config, "runs_folder": folder, "title": title, "look": look, "options": options}
        self._client.request("start", said, started)

    def stop(self, folder: str) -> None:
        """Ask a run to end and keep what is done."""
        self._client.request("stop", {"run": folder})

    def cancel(self, folder: str) -> None:
        """End a run and discard what it made."""
        self._client.request("cancel", {"run": folder})

    def remove(self, folder: str, answer: Answer | None = None) -> None:
        """Remove a run that has ended, and all it made."""

        def removed(result: Any, error: dict[str, Any] | None) -> None:
            if error is None and self._runs.pop(folder, None) is not None:
                self._elsewhere.discard(folder)
                self.listed.emit()
                self._find_models()
            if answer is not None:
                answer(result, error)

        self._client.request("remove", {"run": folder}, removed)

    def resume(self, folder: str) -> bool:
        """Go on with a run that was stopped or lost, in a process that outlives QGIS; tells whether it started."""
        python = paths.backend_python()
        if python is None:
            return False
        process = QProcess()
        process.setProgram(str(python))
        process.setArguments(paths.backend_arguments("work", folder))
        process.setProcessEnvironment(paths.backend_environment())
        process.setStandardOutputFile(str(Path(folder) / "log.txt"), QProcess.OpenModeFlag.Append)
        process.setStandardErrorFile(str(Path(folder) / "log.txt"), QProcess.OpenModeFlag.Append)
        before = read_run(Path(folder)).get("started", "")
        started = process.startDetached()
        if not (started[0] if isinstance(started, tuple) else started):
            return False
        self._resumed[folder] = Resumed(before, time.monotonic() + COME_UP_SECONDS)
        self._runs[folder] = self._runs.get(folder, RunState(folder))._replace(
            state="starting", error="", error_field=""
        )
        self.changed.emit(folder)
        QTimer.singleShot(RECONNECT_MILLISECONDS, self.refresh)
        return True

    def refresh(self) -> None:
        """Read the folder of runs again."""
        folder = str(paths.runs_folder(self._project))
        also = sorted({*self._elsewhere, *self._attached})
        self._client.request("list", {"runs_folder": folder, "also": also}, self._take_list)

    def _take_list(self, result: Any, error: dict[str, Any] | None) -> None:
        if error is not None:
            return
        found = {run["folder"]: run for run in result}
        before = self.all()
        for gone in set(self._runs) - set(found):
            if gone not in self._attached:
                del self._runs[gone]
        for folder, run in found.items():
            self._take_run(folder, run)
        if [(run.folder, run.title) for run in before] != [(run.folder, run.title) for run in self.all()]:
            self.listed.emit()
        self._find_models()
        self._remember_live()

    def _remember_live(self) -> None:
        live = {run.folder for run in self._runs.values() if run.is_live}
        self._elsewhere |= live
        self._live.keep(live)

    def _take_run(self, folder: str, run: dict[str, Any]) -> None:
        if self._is_coming_up(folder, run):
            return
        known = self._runs.get(folder)
        state = (known or RunState(folder))._replace(
            job=run["job"], title=run.get("title") or run["job"], created=run.get("created", ""),
            ended=run.get("ended", ""), device=run.get("device", ""), started=run.get("started", ""),
            worked=run.get("worked", 0.0),
        )  # fmt: skip
        if folder not in self._attached:
            sentence = (run.get("result") or {}).get("sentence", "")
            error = run.get("error", "") if run["state"] in {"failed", "lost"} else ""
            state = state._replace(state=run["state"], error=error, sentence=sentence)
        self._runs[folder] = state
        if state.is_live and folder not in self._attached:
            self._attach(folder)
            if state.state == "waiting":
                self._runs[folder] = self._runs[folder]._replace(message=run.get("waits", ""))
        ended_unseen = known is not None and known.is_live and not state.is_live
        if ended_unseen:  # while the server was away
            self._read(folder)
        if known is not None and known != self._runs[folder]:
            self.changed.emit(folder)
        if ended_unseen:
            self.ended.emit(folder)

    def _is_coming_up(self, folder: str, run: dict[str, Any]) -> bool:
        """Tell whether the folder still says how a resumed run ended the last time."""
        resumed = self._resumed.get(folder)
        if resumed is None:
            return False
        if run.get("started", "") == resumed.started_before and time.monotonic() < resumed.deadline:
            return True
        del self._resumed[folder]
        return False

    def _read(self, folder: str) -> int:
        """Read what a run's folder tells, and return the position up to which it was read."""
        record = read_record(Path(folder))
        progress = record.progress
        self._runs[folder] = self._runs[folder]._replace(
            outputs=record.outputs,
            previews=record.previews,
            warnings=record.warnings,
            fraction=progress.get("fraction", 0.0),
            message=progress.get("message", ""),
            eta_seconds=progress.get("eta_seconds"),
        )
        return record.position

    def _attach(self, folder: str) -> None:
        position = self._read(folder)
        self._attached.add(folder)
        self._client.request("attach", {"run": folder, "after": position})

    def _find_models(self) -> None:
        before = dict(self._models)
        for run in self._runs.values():
            if not run.is_live and run.state != "cancelled" and run.folder not in self._models:
                self._models[run.folder] = find_models(Path(run.folder))
        for gone in set(self._models) - set(self._runs):
            del self._models[gone]
        if before != self._models:
            self.models_changed.emit()

    def _on_hello(self, _hello: dict[str, Any]) -> None:
        self._reconnects = 0
        self.refresh()

    def _on_stopped(self, reason: str) -> None:
        live = bool(self._attached)
        self._attached.clear()
        if reason and live and self._reconnects < RECONNECTS:
            self._reconnects += 1
            QTimer.singleShot(RECONNECT_MILLISECONDS, self._client.start)

    def _on_event(self, folder: str, _position: int, event: dict[str, Any]) -> None:
        run = _after_event(self._runs.get(folder, RunState(folder, title=Path(folder).name)), event)
        self._runs[folder] = run
        self.changed.emit(folder)
        if event["type"] == "done":
            self._attached.discard(folder)
            self._models.pop(folder, None)
            self.ended.emit(folder)
            self.refresh()


def local_time(moment: str) -> str:
    """Show a moment of a record, ISO 8601 in UTC, as hours and minutes here, with the day unless it is today."""
    if not moment:
        return ""
    local = datetime.fromisoformat(moment).astimezone()
    return f"{local:%H:%M}" if local.date() == datetime.now().date() else f"{local:%Y-%m-%d %H:%M}"


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _after_event(run: RunState, event: dict[str, Any]) -> RunState:
    """Return the run as it is after an event; unknown events change nothing."""
    type = event["type"]
    if type == "progress":
        fraction, message, eta = event["fraction"], event.get("message", ""), event.get("eta_seconds")
        return run._replace(state="running", fraction=fraction, message=message, eta_seconds=eta)
    if type == "waiting":
        return run._replace(state="waiting", message=event["message"], eta_seconds=None)
    if type == "started":
        return run._replace(state="running", message="", started=event["time"])
    if type == "device":
        return run._replace(device=event["name"])
    if type == "output":
        output = read_output(event)
        return run._replace(outputs=(*(each for each in run.outputs if each.path != output.path), output))
    if type == "preview":
        preview = read_output(event)
        return run._replace(previews=(*(each for each in run.previews if each.key != preview.key), preview))
    if type == "warning":
        return run._replace(warnings=(*run.warnings, event["text"]))
    if type == "error":
        return run._replace(error=event["text"], error_field=event.get("field") or "")
    if type == "done":
        error = event.get("error") or (run.error if event["state"] in {"failed", "lost"} else "")
        sentence = (event.get("result") or {}).get("sentence", "")
        return run._replace(state=event["state"], error=error, sentence=sentence, eta_seconds=None)
    return run
