"""Watches QGIS's main thread: the longest gap of the event loop, and how long each function of the plugin takes."""

import functools
import gc
import importlib
import inspect
import pkgutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from qgis.PyQt.QtCore import QObject, Qt, QTimer

BEAT_MILLISECONDS = 5
SCHEDULING = Path("/proc/thread-self/schedstat")  # nanoseconds run, nanoseconds waited for a processor, slices


class Heartbeat(QObject):
    """A timer that notices when it was not served."""

    def __init__(self) -> None:
        super().__init__()
        self.step = "start"
        self.gaps: dict[str, float] = {}
        self._last = time.monotonic()
        self._timer = QTimer(self)
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.setInterval(BEAT_MILLISECONDS)
        self._timer.timeout.connect(self._beat)
        self._timer.start()

    def _beat(self) -> None:
        now = time.monotonic()
        gap = (now - self._last) * 1000 - BEAT_MILLISECONDS
        self.gaps[self.step] = max(self.gaps.get(self.step, 0.0), gap)
        self._last = now


class Spent(NamedTuple):
    """Milliseconds, by the clock less the time that other processes held the processors, and of this thread's own."""

    wall: float
    cpu: float

    def __add__(self, other: "Spent") -> "Spent":  # type: ignore[override]
        return Spent(self.wall + other.wall, self.cpu + other.cpu)

    def __sub__(self, other: "Spent") -> "Spent":
        return Spent(self.wall - other.wall, self.cpu - other.cpu)


def now() -> Spent:
    waited = int(SCHEDULING.read_text().split()[1]) / 1e6 if SCHEDULING.exists() else 0
    return Spent(time.perf_counter() * 1000 - waited, time.thread_time() * 1000)


class Stopwatch:
    """The longest times of every method of a package, callees included.

    The time of Python's garbage collector is left out and kept apart: in a QGIS with its plugins one full collection
    takes 40 ms, and whoever happens to allocate the next object pays for it.
    """

    def __init__(self) -> None:
        self.longest: dict[str, Spent] = {}
        self.longest_collection = 0.0
        self._collecting = self._collection_started = Spent(0, 0)
        gc.callbacks.append(self._collect)

    def _collect(self, phase: str, _facts: dict[str, int]) -> None:
        if phase == "start":
            self._collection_started = now()
        else:
            took = now() - self._collection_started
            self._collecting += took
            self.longest_collection = max(self.longest_collection, took.wall)

    def watch(self, package: str) -> None:
        """Wrap all functions of a package that are looked up when they are called."""
        root = importlib.import_module(package)
        for found in pkgutil.walk_packages(root.__path__, f"{package}."):
            module = importlib.import_module(found.name)
            for value in list(vars(module).values()):
                if inspect.isclass(value) and value.__module__ == module.__name__:
                    self._watch_class(value)

    def _watch_class(self, owner: type) -> None:
        for name, value in list(vars(owner).items()):
            if inspect.isfunction(value) and not name.startswith("__"):
                setattr(owner, name, self._timed(f"{owner.__module__}.{owner.__name__}.{name}", value))

    def _timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        kinds = [parameter.kind for parameter in inspect.signature(function).parameters.values()]
        takes = None if inspect.Parameter.VAR_POSITIONAL in kinds else len(kinds)

        @functools.wraps(function)
        def timed(*arguments: Any, **named: Any) -> Any:
            started, collected = now(), self._collecting
            try:
                # A signal hands over all it has, and takes a TypeError as the wish for less: a wrapper must not ask.
                return function(*arguments[:takes], **named)
            finally:
                spent = now() - started - (self._collecting - collected)
                before = self.longest.get(name, Spent(0, 0))
                self.longest[name] = Spent(max(before.wall, spent.wall), max(before.cpu, spent.cpu))

        return timed
