"""Long work in the main thread, a few milliseconds at a time, so that QGIS stays free."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from typing import Callable

from qgis.PyQt.QtCore import QObject, QTimer

SLICE_SECONDS = 0.012
Work = Callable[[], Iterator[None]]


class Slices(QObject):
    """Does works one after the other. What fits into one slice is done when `submit` returns."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._works: deque[Work] = deque()
        self._at: Iterator[None] | None = None
        self._timer = QTimer(self)
        self._timer.setInterval(0)
        self._timer.timeout.connect(self._go_on)

    def submit(self, work: Work) -> None:
        """Do a work, after those that wait."""
        self._works.append(work)
        if not self._timer.isActive():
            self._timer.start()
            self._go_on()

    def is_busy(self) -> bool:
        """Tell whether there is work left."""
        return self._at is not None or bool(self._works)

    def finish(self) -> None:
        """Do all that is left, now."""
        while self.is_busy():
            self._go_on()

    def _go_on(self) -> None:
        until = time.perf_counter() + SLICE_SECONDS
        while self.is_busy() and time.perf_counter() < until:
            try:
                if self._at is None:
                    self._at = self._works.popleft()()
                next(self._at)
            except StopIteration:
                self._at = None
            except BaseException:
                self._at = None
                raise
        if not self.is_busy():
            self._timer.stop()
