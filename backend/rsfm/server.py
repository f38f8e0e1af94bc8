"""Serves the plugin: JSON-RPC 2.0, one message a line, on standard input and a private duplicate of standard output.

It starts runs, each a process of its own that outlives it, and follows their folders. It knows nothing that the folders
do not say, so a second server, or the same one after a crash, continues where it was.

Requests: start, stop, cancel, remove, list, attach, detach, devices, plan, refit. Notifications: hello (first
message), event.
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import psutil

from rsfm import PROTOCOL, __version__, runs
from rsfm.devices import list_devices
from rsfm.errors import UserError
from rsfm.plan_process import PlanProcess
from rsfm.refit_process import RefitProcess

LINE_LIMIT = 64 * 2**20
LONGEST_TEXT = 2000
FOLLOW_EVERY_SECONDS = 0.1
CANCEL_GRACE_SECONDS = 1.5
PARSE_ERROR, INVALID_REQUEST, UNKNOWN_METHOD, INVALID_PARAMS, INTERNAL_ERROR, USER_ERROR = (
    -32700,
    -32600,
    -32601,
    -32602,
    -32603,
    1,
)


def serve() -> None:
    """Serve until standard input ends; runs go on."""
    protocol = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # whatever prints from here on lands in the log, never in the protocol
    Server(sys.stdin.buffer, protocol).serve()


def start_worker(folder: Path) -> None:
    """Start the process that does a run, in a process group of its own, so that it outlives this one."""
    command = [sys.executable, "-E", "-s", "-m", "rsfm", "work", str(folder)]
    detached: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        flags = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.DETACHED_PROCESS
        detached = {"creationflags": flags}
    with open(folder / "log.txt", "ab") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, close_fds=True, **detached
        )
    threading.Thread(target=process.wait, daemon=True).start()  # so that a dead one does not stay as a zombie


def cancel(folder: Path) -> None:
    """Ask a run to end and discard; one that does not listen is ended by force."""
    if runs.read(folder)["state"] in {"done", "cancelled"}:
        return
    runs.request_end(folder, "cancel")
    deadline = time.monotonic() + CANCEL_GRACE_SECONDS
    while time.monotonic() < deadline:
        if runs.read(folder)["state"] in runs.ENDED:
            break
        time.sleep(0.05)
    run = runs.read(folder)
    if run["state"] == "cancelled":
        return
    if run["state"] not in runs.ENDED and "pid" in run:
        _kill(run)
    runs.discard(folder)
    with open(folder / "events.jsonl", "a", encoding="utf-8") as events:
        events.write(json.dumps({"time": runs.now(), "type": "done", "state": "cancelled"}) + "\n")
    runs.update(folder, state="cancelled", ended=runs.now())


class Server:
    """Answers requests from `source` on `sink`, and reports what happens in the folders of the attached runs."""

    def __init__(self, source: IO[bytes], sink: IO[bytes]) -> None:
        self._source, self._sink = source, sink
        self._lock = threading.Lock()
        self._positions: dict[Path, int] = {}
        self._methods: dict[str, Callable[..., Any]] = {
            "start": self.start,
            "stop": self.stop,
            "cancel": self.cancel,
            "remove": self.remove,
            "list": self.list_runs,
            "attach": self.attach,
            "detach": self.detach,
            "devices": list_devices,
        }
        self._planner = PlanProcess()
        self._refits = RefitProcess()
        self._slow: dict[str, Callable[..., Any]] = {"plan": self._planner.plan, "refit": self._refits.refit}

    def serve(self) -> None:
        """Greet, then answer until the source ends."""
        hello = {"protocol": PROTOCOL, "version": __version__, "pid": os.getpid(), "devices": list_devices()}
        self._send({"method": "hello", "params": hello})
        threading.Thread(target=self._follow, daemon=True).start()
        while line := self._source.readline(LINE_LIMIT):
            if not line.endswith(b"\n") and len(line) == LINE_LIMIT:
                self._skip_line()
                self._fail(None, INVALID_REQUEST, f"A message may have at most {LINE_LIMIT} bytes.")
            elif line.strip():
                self._answer(line)
        self._planner.close()
        self._refits.close()

    def start(
        self,
        job: str,
        config: dict[str, Any],
        runs_folder: str,
        title: str = "",
        look: dict[str, Any] | None = None,
        options: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Start a run and follow it; answers with its folder. `look` and `options` are those of `runs.create`."""
        folder = runs.create(Path(runs_folder), job, title or job, config, look, options)
        start_worker(folder)
        self.attach(str(folder))
        return {"run": str(folder)}

    def stop(self, run: str) -> None:
        """Ask a run to end and keep what is done."""
        runs.read(Path(run))
        runs.request_end(Path(run), "stop")

    def cancel(self, run: str) -> None:
        """End a run and discard what it made."""
        cancel(Path(run))

    def remove(self, run: str) -> None:
        """Remove the folder of a run that has ended."""
        self.detach(run)
        runs.remove(Path(run))

    def list_runs(self, runs_folder: str, also: list[str] | None = None) -> list[dict[str, Any]]:
        """List the runs of a folder, newest first, then some that are elsewhere, where they still are."""
        found = runs.list_runs(Path(runs_folder))
        listed = {run["folder"] for run in found}
        for folder in also or ():
            if folder not in listed and (Path(folder) / "run.json").is_file():
                found.append(runs.read(Path(folder)))
        return found

    def attach(self, run: str, after: int = 0) -> dict[str, Any]:
        """Report the events of a run from byte `after` of its record on, past and coming; answers with its state."""
        found = runs.read(Path(run))
        with self._lock:
            self._positions[Path(run)] = after
        return found

    def detach(self, run: str) -> None:
        """Report a run no longer."""
        with self._lock:
            self._positions.pop(Path(run), None)

    def _answer(self, line: bytes) -> None:
        try:
            message = json.loads(line)
        except (ValueError, RecursionError) as error:
            return self._fail(None, PARSE_ERROR, f"This line is not JSON: {error}.")
        if not isinstance(message, dict) or not isinstance(message.get("method"), str):
            return self._fail(None, INVALID_REQUEST, "A request is an object with a 'method'.")
        id = message.get("id")
        params = message.get("params", {})
        name = message["method"]
        method = self._methods.get(name) or self._slow.get(name)
        if method is None:
            return self._fail(id, UNKNOWN_METHOD, f"There is no method '{message['method']}'.")
        if not isinstance(params, dict):
            return self._fail(id, INVALID_PARAMS, "'params' must be an object.")
        if name in self._slow:
            threading.Thread(target=self._call, args=(id, name, method, params), daemon=True).start()
            return None
        return self._call(id, name, method, params)

    def _call(self, id: Any, name: str, method: Callable[..., Any], params: dict[str, Any]) -> None:
        try:
            result = method(**params)
        except UserError as error:
            return self._fail(id, USER_ERROR, str(error), field=error.field)
        except TypeError as error:
            return self._fail(id, INVALID_PARAMS, str(error))
        except Exception as error:  # the server must live on, whatever one request does
            text = f"{type(error).__name__}: {error}"[:LONGEST_TEXT]
            print(f"{name}: {text}", file=sys.stderr)
            return self._fail(id, INTERNAL_ERROR, text)
        if id is not None:
            self._send({"id": id, "result": result})
        return None

    def _fail(self, id: Any, code: int, text: str, **data: Any) -> None:
        self._send({"id": id, "error": {"code": code, "message": text, "data": data}})

    def _send(self, message: dict[str, Any]) -> None:
        line = json.dumps({"jsonrpc": "2.0", **message}, ensure_ascii=False).encode() + b"\n"
        with self._lock:
            self._sink.write(line)

    def _skip_line(self) -> None:
        while (rest := self._source.readline(2**20)) and not rest.endswith(b"\n"):
            pass

    def _follow(self) -> None:
        while True:
            with self._lock:
                positions = dict(self._positions)
            for folder, position in positions.items():
                try:
                    self._report(folder, position)
                except (OSError, UserError):  # the folder was removed
                    self.detach(str(folder))
            time.sleep(FOLLOW_EVERY_SECONDS)

    def _report(self, folder: Path, position: int) -> None:
        run = runs.read(folder)  # before its events: a process tells that it is done last of all
        with open(folder / "events.jsonl", "rb") as file:
            file.seek(position)
            text = file.read()
        lines = text[: text.rfind(b"\n") + 1].splitlines(keepends=True)
        for line in lines:
            position += len(line)
            with suppress(ValueError):  # a line that a full disk cut short
                self._event(folder, position, json.loads(line))
        with self._lock:
            if folder not in self._positions:
                return
            self._positions[folder] = position
        if not lines and run["state"] in runs.ENDED and not runs.is_alive(run):
            if run["state"] == "lost":
                end = {"time": runs.now(), "type": "done", "state": "lost", "error": run["error"]}
                self._event(folder, position, end)
            self.detach(str(folder))

    def _event(self, folder: Path, position: int, event: dict[str, Any]) -> None:
        self._send({"method": "event", "params": {"run": str(folder), "position": position, "event": event}})


def _kill(run: dict[str, Any]) -> None:
    try:
        process = psutil.Process(run["pid"])
        family = [process, *process.children(recursive=True)]
    except psutil.Error:
        return
    for member in family:
        try:
            member.kill()
        except psutil.Error:
            continue
    psutil.wait_procs(family, timeout=1)
