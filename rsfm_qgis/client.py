"""Talks with the backend's server: one process, one JSON message a line on its standard input and output.

The server only follows runs, which are processes of their own: when it dies nothing is lost, and the next request
starts another one.
"""

from __future__ import annotations

import json
from typing import Any, Callable, NamedTuple

from qgis.PyQt.QtCore import QCoreApplication, QObject, QProcess, QTimer, pyqtSignal

from rsfm_qgis import paths
from rsfm_qgis.schema import PROTOCOL

Answer = Callable[[Any, "dict[str, Any] | None"], None]
LOG_LIMIT = 20000
END_MILLISECONDS = 1000
HELLO_MILLISECONDS = 30000


class Pending(NamedTuple):
    """A request that waits for its answer."""

    method: str
    answer: Answer | None


class BackendClient(QObject):
    """The server process, requests and signals.

    Signals:
        hello: the server is there; its first message, with `version` and `devices`.
        reported: folder of a run, position after the event in its record, the event.
        stopped: the server is gone, and why; empty when it was asked to go.
    """

    hello = pyqtSignal(dict)
    reported = pyqtSignal(str, int, dict)
    stopped = pyqtSignal(str)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.greeting: dict[str, Any] = {}
        self.problem = ""
        self._process: QProcess | None = None
        self._pending: dict[int, Pending] = {}
        self._waiting: list[bytes] = []
        self._number = 0
        self._unread = b""
        self._log = ""
        self._patience = QTimer(self)
        self._patience.setSingleShot(True)
        self._patience.setInterval(HELLO_MILLISECONDS)
        self._patience.timeout.connect(self._no_hello)

    @property
    def devices(self) -> list[dict[str, Any]]:
        """What the server said this machine offers, best first; empty before it came up."""
        return list(self.greeting.get("devices", []))

    def is_running(self) -> bool:
        """Tell whether there is a server process."""
        return self._process is not None

    def start(self) -> bool:
        """Start the server unless it is there; tells whether there is one."""
        if self._process is not None:
            return True
        python = paths.backend_python()
        if python is None:
            self._give_up(self.how_to_install())
            return False
        self._unread, self._log, self.problem = b"", "", ""
        self._process = QProcess(self)
        self._process.setProcessEnvironment(paths.backend_environment())
        self._process.readyReadStandardOutput.connect(self._read)
        self._process.readyReadStandardError.connect(self._read_log)
        self._process.finished.connect(self._end)
        self._process.errorOccurred.connect(self._fail)
        self._process.start(str(python), paths.backend_arguments("serve"))
        self._patience.start()
        return True

    def close(self) -> None:
        """End the server without waiting for it; runs go on."""
        process, self._process = self._process, None
        self._patience.stop()
        self.greeting = {}
        if process is not None:
            for signal in (process.readyReadStandardOutput, process.readyReadStandardError, process.finished):
                signal.disconnect()
            process.errorOccurred.disconnect()
            _let_go(process)
        self._refuse_all("")

    def restart(self) -> bool:
        """Start a fresh server, such as after the settings changed."""
        self.close()
        return self.start()

    def request(self, method: str, params: dict[str, Any], answer: Answer | None = None) -> None:
        """Send a request; `answer` gets its result, or the error with `message` and `data`.

        Starts the server where there is none.
        """
        self._number += 1
        number = self._number
        self._pending[number] = Pending(method, answer)
        message = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
        line = json.dumps(message, ensure_ascii=False).encode() + b"\n"
        if not self.start():
            return
        if self.greeting and self._process is not None:
            self._process.write(line)
        else:
            self._waiting.append(line)

    def how_to_install(self) -> str:
        """Say in a sentence how to get a backend."""
        text: str = self.tr(
            "The backend is not installed: run \u201cuv sync\u201d in the folder backend, then choose its Python "
            "under Settings \u25b8 Options \u25b8 RSFM."
        )
        return text

    def _read(self) -> None:
        if self._process is None:
            return
        self._unread += bytes(self._process.readAllStandardOutput())
        *lines, self._unread = self._unread.split(b"\n")
        for line in lines:
            self._take(line)

    def _take(self, line: bytes) -> None:
        try:
            message = json.loads(line)
        except ValueError:
            self._remember(line.decode(errors="replace"))
            return
        params = message.get("params", {})
        if message.get("method") == "hello":
            self._greet(params)
        elif message.get("method") == "event":
            self.reported.emit(params["run"], params["position"], params["event"])
        elif message.get("id") in self._pending:
            pending = self._pending.pop(message["id"])
            if pending.answer is not None:
                pending.answer(message.get("result"), message.get("error"))

    def _greet(self, hello: dict[str, Any]) -> None:
        self._patience.stop()
        if hello.get("protocol") != PROTOCOL:
            older = "backend" if int(hello.get("protocol", 0)) < PROTOCOL else "plugin"
            text = self.tr("The plugin speaks protocol {0} and the backend {1} speaks {2}. Update the {3}.")
            self.close()
            self._give_up(text.format(PROTOCOL, hello.get("version", "?"), hello.get("protocol"), older))
            return
        self.greeting = hello
        waiting, self._waiting = self._waiting, []
        for line in waiting:
            if self._process is not None:
                self._process.write(line)
        self.hello.emit(hello)

    def _read_log(self) -> None:
        if self._process is not None:
            self._remember(bytes(self._process.readAllStandardError()).decode(errors="replace"))

    def _remember(self, text: str) -> None:
        self._log = (self._log + text)[-LOG_LIMIT:]

    def _no_hello(self) -> None:
        self.close()
        self._give_up(
            self.tr("The backend did not answer within 30 s. Choose its Python in the options.") + self._tail()
        )

    def _fail(self, error: Any) -> None:
        if error == QProcess.ProcessError.FailedToStart and self._process is not None:
            program = self._process.program()
            self._drop()
            text = self.tr("The backend's Python \u201c{0}\u201d could not be started. Choose another in the options.")
            self._give_up(text.format(program))

    def _end(self, code: int, _status: Any) -> None:
        self._read()
        self._read_log()
        self._drop()
        self._give_up(self.tr("The backend ended with code {0}.").format(code) + self._tail())

    def _drop(self) -> None:
        self._patience.stop()
        if self._process is not None:
            self._process.deleteLater()
        self._process, self.greeting = None, {}

    def _give_up(self, reason: str) -> None:
        self.problem = reason
        self._refuse_all(reason)
        self.stopped.emit(reason)

    def _refuse_all(self, reason: str) -> None:
        pending, self._pending, self._waiting = self._pending, {}, []
        for each in pending.values():
            if each.answer is not None and reason:
                each.answer(None, {"code": 0, "message": reason, "data": {}})

    def _tail(self) -> str:
        """Quote the last line the backend wrote, which usually says why."""
        lines = [line for line in self._log.splitlines() if line.strip()]
        return f" {lines[-1].strip()}" if lines else ""


def _let_go(process: QProcess) -> None:
    """End a server's input, so that it leaves by itself; one that stays is ended by force."""
    process.setParent(QCoreApplication.instance())
    process.finished.connect(process.deleteLater)
    patience = QTimer(process)
    patience.setSingleShot(True)
    patience.timeout.connect(process.kill)
    patience.start(END_MILLISECONDS)
    process.closeWriteChannel()
