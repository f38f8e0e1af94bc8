"""Asks the backend to learn from the marks, one question at a time: what changes meanwhile is asked in one go after."""

from __future__ import annotations

from typing import Any

from qgis.PyQt.QtCore import QObject, QTimer, pyqtSignal

from rsfm_qgis.client import BackendClient

CALM_MILLISECONDS = 30
"""Changes of one moment, such as a mark and the form that takes it over, make one question."""


class Refitter(QObject):
    """Sends configs of 'refine_change' with what is on the screen.

    Signals:
        asked: a question went out.
        answered: what `refit` of the backend returns.
        failed: the parameter that is wrong, or nothing, and a sentence.
    """

    asked = pyqtSignal()
    answered = pyqtSignal(dict)
    failed = pyqtSignal(str, str)

    def __init__(self, client: BackendClient, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._client = client
        self._is_busy = False
        self._next: dict[str, Any] | None = None
        self._calm = QTimer(self)
        self._calm.setSingleShot(True)
        self._calm.setInterval(CALM_MILLISECONDS)
        self._calm.timeout.connect(self._ask)

    def is_busy(self) -> bool:
        """Tell whether an answer is awaited."""
        return self._is_busy or self._next is not None

    def ask(self, config: dict[str, Any], screen: dict[str, Any], stem: str) -> None:
        """Ask in a moment, or once the answer to the question before is there."""
        self._next = {"config": config, "screen": screen, "stem": stem}
        self._calm.start()

    def forget(self) -> None:
        """Ask no more what was not asked yet."""
        self._next = None

    def _ask(self) -> None:
        if self._is_busy or self._next is None:
            return
        question, self._next, self._is_busy = self._next, None, True
        self.asked.emit()
        self._client.request("refit", question, self._answer)

    def _answer(self, result: Any, error: dict[str, Any] | None) -> None:
        self._is_busy = False
        if error is None:
            self.answered.emit(result)
        else:
            self.failed.emit(str(error.get("data", {}).get("field") or ""), error["message"])
        self._ask()
