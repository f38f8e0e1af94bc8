"""Watches QGIS's main thread: the longest gap of the event loop, and how long each function of the plugin takes."""

import functools
import gc
import importlib
import inspect
import pkgutil
import time
from collections.abc import Callable
from typing import Any

from qgis.PyQt.QtCore import QObject, Qt, QTimer

BEAT_MILLISECONDS = 5


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


class Stopwatch:
    """The longest time of every method of a package, callees included, in milliseconds.

    The time of Python's garbage collector is left out and kept apart: in a QGIS with its plugins one full collection
    takes 40 ms, and whoever happens to allocate the next object pays for it.
    """

    def __init__(self) -> None:
        self.longest: dict[str, float] = {}
        self.longest_collection = 0.0
        self._collecting = 0.0
        self._collection_started = 0.0
        gc.callbacks.append(self._collect)

    def _collect(self, phase: str, _facts: dict[str, int]) -> None:
        now = time.perf_counter()
        if phase == "start":
            self._collection_started = now
        else:
            self._collecting += now - self._collection_started
            self.longest_collection = max(self.longest_collection, (now - self._collection_started) * 1000)

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
            started, collected = time.perf_counter(), self._collecting
            try:
                # A signal hands over all it has, and takes a TypeError as the wish for less: a wrapper must not ask.
                return function(*arguments[:takes], **named)
            finally:
                spent = (time.perf_counter() - started - self._collecting + collected) * 1000
                self.longest[name] = max(self.longest.get(name, 0.0), spent)

        return timed
