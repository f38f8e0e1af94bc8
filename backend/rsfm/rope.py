"""A thread between the first process of a training and each other one: who fails says why, and who is gone is missed.

What processes compute together waits for all of them, for ever if one is gone. So each holds an end of a connection
that does nothing else. Messages are lines of JSON; a connection that ends without one was that of a process that died.
No torch here.
"""

import hmac
import json
import secrets
import socket
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

GREETING_SECONDS = 60
OUT_OF_STEP = threading.Event()
"""Set when this process no longer goes in step with the others: who waits for them in another thread must not."""
LOCAL = ("127.0.0.1", "localhost", "::1")


class Place(NamedTuple):
    """Where the first process is met, and the word that tells that one belongs to it."""

    host: str
    port: int
    word: str


class Lost(NamedTuple):
    """A process that ended: its number, and the error that it told; none if it died without a word.

    Attributes:
        told: {"text": ..., "field": ..., "bug": ...}, or {} from a process that is done.
    """

    process: int
    told: dict[str, Any] | None


class Rope:
    """All connections of this process.

    Attributes:
        lost: is set when a process has ended.
    """

    def __init__(self, ended: Callable[[Lost], None]) -> None:
        """Hold nothing yet.

        Args:
            ended: called in another thread for each process that ends.
        """
        self.lost = threading.Event()
        self.first: Lost | None = None
        self._ended, self._ends, self._lock = ended, list[socket.socket](), threading.Lock()

    def listen(self, host: str, others: int) -> tuple[Place, Callable[[], None]]:
        """Wait for the other processes; returns where, and what to call once they have been told."""
        server = socket.create_server(("127.0.0.1" if host in LOCAL else "", 0), backlog=max(others, 1))
        place = Place(host, server.getsockname()[1], secrets.token_hex(16))

        def meet() -> None:
            with server:
                server.settimeout(GREETING_SECONDS)
                while len(self._ends) < others:
                    self._greet(server.accept()[0], place.word)

        return place, meet

    def join(self, place: Place, process: int) -> None:
        """Take hold as one of the other processes."""
        end = socket.create_connection((place.host, place.port), GREETING_SECONDS)
        _send(end, {"word": place.word, "process": process})
        self._hold(end, 0)

    def tell(self, message: dict[str, Any]) -> None:
        """Tell all at the other ends how this process ended; {} if it is done."""
        for end in self._ends:
            try:
                _send(end, message)
                end.shutdown(socket.SHUT_WR)
            except OSError:  # that one is gone
                continue

    def _greet(self, end: socket.socket, word: str) -> None:
        end.settimeout(GREETING_SECONDS)
        try:
            with end.makefile(encoding="utf-8") as lines:
                hello = json.loads(lines.readline(1000))
            known = hmac.compare_digest(str(hello["word"]), word)
        except (OSError, ValueError, LookupError, TypeError):
            known = False
        if known:
            self._hold(end, int(hello["process"]))
        else:  # somebody else who found the port
            end.close()

    def _hold(self, end: socket.socket, process: int) -> None:
        end.settimeout(None)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._ends.append(end)
        threading.Thread(target=self._watch, args=(end, process), name=f"rope {process}", daemon=True).start()

    def _watch(self, end: socket.socket, process: int) -> None:
        try:
            with end.makefile(encoding="utf-8") as lines:
                line = lines.readline()
                told = json.loads(line) if line else None
        except (OSError, ValueError):
            told = None
        found = Lost(process, told)
        with self._lock:
            if self.first is None or (told and not self.first.told):
                self.first = found
        self.lost.set()
        OUT_OF_STEP.set()
        self._ended(found)


def _send(end: socket.socket, message: dict[str, Any]) -> None:
    end.sendall(json.dumps(message).encode() + b"\n")
