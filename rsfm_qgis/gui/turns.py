"""Work in small pieces, one in each turn of the event loop, so that QGIS stays free between them."""

from __future__ import annotations

from collections.abc import Iterator

from qgis.PyQt.QtCore import QObject, QTimer


class Turns(QObject):
    """Does a generator's work up to its next `yield`, one piece a turn; pieces of several are done in their order."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._waiting: list[Iterator[None]] = []
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._next)

    def add(self, work: Iterator[None]) -> None:
        """Do this after what waits already."""
        self._waiting.append(work)
        self._timer.start(0)

    def _next(self) -> None:
        """Do one piece; one that raises ends its own work only."""
        work = self._waiting[0]
        try:
            next(work)
        except StopIteration:
            self._waiting.remove(work)
        except BaseException:
            self._waiting.remove(work)
            raise
        finally:
            if self._waiting:
                self._timer.start(0)
