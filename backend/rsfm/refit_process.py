"""Answers clicks for the server: a process of its own does, and stays as long as there are some."""

import json
import subprocess
import sys
import threading
from typing import Any

from rsfm.errors import UserError

IDLE_SECONDS = 900
"""After the last click the process goes, and its memory with it."""


class RefitProcess:
    """Asks the process, one click after the other. Several threads may."""

    def __init__(self) -> None:
        self._asking, self._changing = threading.Lock(), threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._idle: threading.Timer | None = None

    def refit(self, config: dict[str, Any], screen: dict[str, Any], stem: str) -> dict[str, Any]:
        """Learn from the marks of a config of 'refine_change', and map the screen; see `differences/live.py`.

        Raises:
            UserError: it cannot be done, or the process ended.
        """
        with self._asking:
            self._wait_for_idle(False)
            process = self._start()
            try:
                line = json.dumps({"config": config, "screen": screen, "stem": stem}).encode() + b"\n"
                process.stdin.write(line)  # type: ignore[union-attr]
                process.stdin.flush()  # type: ignore[union-attr]
                said = process.stdout.readline()  # type: ignore[union-attr]
            except OSError:
                said = b""
            self._wait_for_idle(True)
        if not said:
            self.close()
            raise UserError("What answers clicks ended without a word, perhaps for lack of memory. Click again.")
        found: dict[str, Any] = json.loads(said)
        if "error" in found:
            raise UserError(found["error"], found["field"])
        result: dict[str, Any] = found["result"]
        return result

    def close(self) -> None:
        """End the process, if there is one."""
        with self._changing:
            process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def _start(self) -> "subprocess.Popen[bytes]":
        with self._changing:
            if self._process is None or self._process.poll() is not None:
                command = [sys.executable, "-E", "-s", "-m", "rsfm", "refits"]
                self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            return self._process

    def _wait_for_idle(self, on: bool) -> None:
        if self._idle is not None:
            self._idle.cancel()
        self._idle = threading.Timer(IDLE_SECONDS, self.close) if on else None
        if self._idle is not None:
            self._idle.daemon = True
            self._idle.start()
