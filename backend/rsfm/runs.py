"""A run is a folder, and the folder is the truth about it: the server follows it, QGIS reconnects through it.

    config.json    as validated            run.json     state, pid, device, versions, times (replaced, never edited)
    events.jsonl   one event a line        log.txt      everything that was printed
    control        "stop" or "cancel"      outputs/     what the user gets     checkpoints/  what a restart needs
    look.json      what is on the screen   previews/    what can be seen of outputs before they are whole
    report.html    for people              shown/       what only the run itself could draw for the report
    tensorboard/   the numbers of a training, for TensorBoard

No torch here: the server reads runs, and must start at once.
"""

import json
import os
import platform
import re
import shutil
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import psutil

from rsfm import PROTOCOL, __version__
from rsfm.errors import Cancelled, Stopped, UserError
from rsfm.run_options import RunOptions, read_options
from rsfm.whole_file import write_whole

State = Literal["starting", "waiting", "running", "stopped", "cancelled", "failed", "done", "lost"]
ENDED: frozenset[str] = frozenset({"stopped", "cancelled", "failed", "done", "lost"})
PROGRESS_EVERY_SECONDS = 0.2
TAIL_BYTES = 2**16
ROOM, ROOM_BYTES = ".room", 2**17
IMPORTED = time.time()


def create(
    runs: Path,
    job: str,
    title: str,
    config: dict[str, Any],
    look: dict[str, Any] | None = None,
    options: dict[str, Any] | None = None,
) -> Path:
    """Make the folder of a new run, named after the moment, the job and its subject, and return it.

    Args:
        look: asks for previews; `bounds` is what is on the screen, west, south, east, north in `crs`.
        options: fields of `RunOptions`.

    Raises:
        UserError: the folder of runs cannot be written.
    """
    started = datetime.now()
    base = f"{started:%Y%m%d-%H%M%S}-{job}"
    try:
        runs.mkdir(parents=True, exist_ok=True)
        folder = _new_folder(runs, base)
        (folder / "outputs").mkdir()
        (folder / "checkpoints").mkdir()
        write_json(folder / "config.json", config)
        write_json(
            folder / "run.json",
            {
                "protocol": PROTOCOL,
                "version": __version__,
                "python": platform.python_version(),
                "job": job,
                "title": title,
                "state": "starting",
                "created": now(),
                "options": read_options(options)._asdict(),
            },
        )
        if look is not None:
            write_json(folder / "look.json", look)
        (folder / "events.jsonl").touch()
    except OSError as error:
        raise UserError(
            f"The folder of runs '{runs}' cannot be written ({error.strerror}). "
            "Choose another one under Settings > Options > RSFM."
        ) from error
    return folder


def read(folder: Path) -> dict[str, Any]:
    """Read what is known of a run; `state` is "lost" when its process is gone without having ended it.

    Raises:
        UserError: the folder holds no run.
    """
    try:
        run: dict[str, Any] = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"'{folder}' holds no run: its run.json cannot be read.") from error
    run["folder"] = str(folder)
    if run["state"] not in ENDED and not is_alive(run):
        run |= {"state": "lost", "error": _why_lost(folder), "ended": _last_sign(folder).isoformat()}
    return run


def list_runs(runs: Path) -> list[dict[str, Any]]:
    """Read all runs of a folder, newest first."""
    found = []
    for file in runs.glob("*/run.json"):
        try:
            found.append(read(file.parent))
        except UserError:  # a folder that is being made or removed
            continue
    return sorted(found, key=lambda run: (run.get("created", ""), run["folder"]), reverse=True)


def last_progress(folder: Path) -> dict[str, Any]:
    """Read the last progress event of a run; empty where there is none."""
    try:
        with open(folder / "events.jsonl", "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            lines = file.read().split(b"\n")[:-1]
    except OSError:
        return {}
    for line in reversed(lines):
        if b'"type": "progress"' in line:
            found: dict[str, Any] = json.loads(line)
            return found
    return {}


def update(folder: Path, **changes: Any) -> None:
    """Change entries of run.json, by replacing the file."""
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    write_json(folder / "run.json", {**run, **changes})


def request_end(folder: Path, how: Literal["stop", "cancel"]) -> None:
    """Ask a run's process to end; it looks at every step."""
    write_text(folder / "control", how)


def discard(folder: Path) -> None:
    """Remove what a cancelled run made; its record stays."""
    for name in ("outputs", "checkpoints", "previews", "shown"):
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / "report.html").unlink(missing_ok=True)


def remove(folder: Path) -> None:
    """Remove a run and all it made.

    Raises:
        UserError: it goes on, or its folder cannot be removed.
    """
    if read(folder)["state"] not in ENDED:
        raise UserError("This run is still going on. Cancel it first.")
    going = folder.with_name(f".{folder.name}.{os.getpid()}.removed")
    try:
        os.replace(folder, going)  # at once, so that no reader sees half a run
        shutil.rmtree(going)
    except OSError as error:
        raise UserError(f"The run '{folder}' cannot be removed ({error.strerror}): another program uses it.") from error


def keep_room(folder: Path) -> None:
    """Hold some space, so that a run on a full disk can still say what was wrong."""
    with suppress(OSError):
        (folder / ROOM).write_bytes(bytes(ROOM_BYTES))


def make_room(folder: Path) -> None:
    """Give that space back."""
    (folder / ROOM).unlink(missing_ok=True)


def remove_partial(outputs: Path) -> None:
    """Remove files that were being written when the run ended; a finished file has its final name."""
    for file in outputs.rglob("*.partial*"):
        file.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that a reader sees the old file or the new one, never half of it."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False))


def write_text(path: Path, text: str) -> None:
    """Write a small file by renaming a finished one over it."""
    write_whole(path, text.encode())


def now() -> str:
    """The time in UTC, as ISO 8601 to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def safe_name(text: str) -> str:
    """Make a file name of any text."""
    return re.sub(r"[^\w.-]+", "_", text).strip("._") or "run"


class Run:
    """A run as its job sees it: where to write, and how to report.

    Every report is a line of events.jsonl; `listener`, if given, gets the event as well.

    Attributes:
        said: is told with every output, such as the date of what it shows.
    """

    def __init__(self, folder: Path, listener: Any = None) -> None:
        self.folder = folder
        self.outputs = folder / "outputs"
        self.checkpoints = folder / "checkpoints"
        self.previews = folder / "previews"
        self.said: dict[str, Any] = {}
        self._listener = listener
        _end_last_line(folder / "events.jsonl")
        self._events = open(folder / "events.jsonl", "a", encoding="utf-8", buffering=1)  # noqa: SIM115
        self._started = time.monotonic()
        self._last_progress = -1.0
        self._scalars: Any = None

    def emit(self, type: str, **event: Any) -> None:
        """Append an event: progress, metric, preview, output, warning, error or done."""
        event = {"time": now(), "type": type, **event}
        self._events.write(json.dumps(event, ensure_ascii=False, allow_nan=False, default=str) + "\n")
        if self._listener:
            try:
                self._listener(event)
            except OSError:  # whoever listened is gone, such as QGIS or a terminal: the run goes on
                self._listener = None
        if type == "metric":
            self._keep(event)
        elif type == "done" and self._scalars is not None:
            self._scalars.close()

    def progress(self, fraction: float, message: str = "", eta_seconds: float | None = None) -> None:
        """Report how far the run is, from 0 to 1; at most five times a second."""
        elapsed = time.monotonic() - self._started
        if fraction < 1 and elapsed - self._last_progress < PROGRESS_EVERY_SECONDS:
            return
        self._last_progress = elapsed
        if eta_seconds is None and fraction > 0.01:
            eta_seconds = elapsed * (1 - fraction) / fraction
        eta = None if eta_seconds is None else round(eta_seconds, 1)
        self.emit("progress", fraction=round(min(max(fraction, 0.0), 1.0), 4), message=message, eta_seconds=eta)

    def metric(self, name: str, step: int, value: float) -> None:
        """Report a number that changes as the run goes on."""
        self.emit("metric", name=name, step=step, value=float(value))

    def output(self, kind: str, path: Path, title: str, **style: Any) -> None:
        """Report a finished file.

        Args:
            kind: a member of `outputs/` here and of `layers/` in the plugin, which says how it looks.
            style: what the look needs beyond the file itself, such as classes with names and colours.
        """
        self.emit("output", kind=kind, path=str(path), title=title, style=style, **self.said)

    def preview(self, kind: str, path: Path, key: str, title: str, **style: Any) -> None:
        """Report a file that shows what an output will be; it takes the place of the one before of the same key."""
        self.emit("preview", kind=kind, path=str(path), key=key, title=title, style=style, **self.said)

    def wait(self, text: str) -> None:
        """Record that the run waits, and behind what."""
        update(self.folder, state="waiting", waits=text)
        self.emit("waiting", message=text)

    def go_on(self) -> None:
        """Record that the run waits no longer."""
        update(self.folder, state="running", waits="", started=now())
        self.emit("started")

    @property
    def options(self) -> RunOptions:
        """How the run behaves beside others."""
        return read_options(read(self.folder).get("options"))

    @property
    def look(self) -> dict[str, Any] | None:
        """What the plugin shows; None where nobody looks, as on the command line."""
        try:
            found: dict[str, Any] = json.loads((self.folder / "look.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found

    def device(self, name: str) -> None:
        """Record the device that does the work."""
        update(self.folder, device=name)
        self.emit("device", name=name)

    def note(self, text: str) -> None:
        """Tell the user a finding, in a sentence."""
        self.emit("note", text=text)

    def warning(self, text: str) -> None:
        """Tell the user something that does not end the run."""
        self.emit("warning", text=text)

    def check(self) -> None:
        """Let the user end the run here.

        Raises:
            Stopped, Cancelled: as the user chose.
        """
        try:
            how = (self.folder / "control").read_text(encoding="utf-8")
        except OSError:
            return
        raise Cancelled if how.strip() == "cancel" else Stopped

    def _keep(self, metric: dict[str, Any]) -> None:
        """Write a number for TensorBoard, whose library is loaded where there is one to write."""
        if self._scalars is None:
            from rsfm.scalars import ScalarFile

            self._scalars = ScalarFile(self.folder)
        self._scalars.add(metric["name"], metric["step"], metric["value"])


def claim(folder: Path) -> None:
    """Enter this process as the one that does the run.

    A wish to end that is older than this process was for the one before.
    """
    process = psutil.Process()
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    control = folder / "control"
    if "pid" in run and control.exists() and control.stat().st_mtime < IMPORTED:
        control.unlink(missing_ok=True)
    kept = {name: value for name, value in run.items() if name not in {"error", "ended", "exit_code", "result"}}
    mine = {"state": "running", "pid": process.pid, "process_started": process.create_time(), "started": now()}
    write_json(folder / "run.json", {**kept, **mine, "worked": worked_seconds(run, folder)})


def worked_seconds(run: dict[str, Any], folder: Path) -> float:
    """Return how long a run's processes have worked until its last event, the time in queues left out."""
    before = float(run.get("worked", 0))
    if "started" not in run or run["state"] == "waiting":
        return before
    last = (folder / "events.jsonl").stat().st_mtime
    return before + max(0.0, last - datetime.fromisoformat(run["started"]).timestamp())


def is_alive(run: dict[str, Any]) -> bool:
    """Tell whether the run's process still works; the start time guards against a pid used again."""
    if "pid" not in run:  # its process has not come up yet
        age = datetime.now(UTC) - datetime.fromisoformat(run["created"])
        return age.total_seconds() < 60
    try:
        process = psutil.Process(run["pid"])
        same = abs(process.create_time() - run["process_started"]) < 1
        return same and process.status() != psutil.STATUS_ZOMBIE  # dead, and nobody has asked how it ended
    except psutil.Error:
        return False


def _end_last_line(events: Path) -> None:
    """End a line that a process which died, or a full disk, left in its middle."""
    with suppress(FileNotFoundError), open(events, "r+b") as file:
        size = file.seek(0, os.SEEK_END)
        if size and file.seek(size - 1) >= 0 and file.read(1) != b"\n":
            file.write(b"\n")


def _last_sign(folder: Path) -> datetime:
    """Return when a run gave its last sign of life."""
    files = [folder / "events.jsonl", folder / "run.json"]
    return datetime.fromtimestamp(max(file.stat().st_mtime for file in files if file.exists()), UTC)


def _why_lost(folder: Path) -> str:
    """Say in plain words what is known of a run that ended without a word."""
    if psutil.boot_time() > _last_sign(folder).timestamp():
        return "The computer was switched off or restarted while it ran; what it finished is kept."
    return "The run's process ended without a word. Its log may say why; what it finished is kept."


def _new_folder(runs: Path, base: str) -> Path:
    for number in range(1, 1000):
        folder = runs / (base if number == 1 else f"{base}-{number}")
        try:
            folder.mkdir()
            return folder
        except FileExistsError:
            continue
    raise UserError(f"'{runs}' holds too many runs of this second. Wait a second and press Run again.")
