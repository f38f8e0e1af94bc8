"""Whose chart is shown: that of the run at work on the page that is open, or the one that was asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Callable

from qgis.PyQt.QtCore import QObject

from rsfm_qgis.gui.chart_card import ChartCard
from rsfm_qgis.runs import RunList, RunState
from rsfm_qgis.schema import jobs

SCALARS = "tensorboard"


def has_chart(folder: str) -> bool:
    """Tell whether a run reported numbers."""
    return (Path(folder) / SCALARS).is_dir()


class ChartPlace(QObject):
    """Shows and hides the card of the chart."""

    def __init__(self, card: ChartCard, runs: RunList, page: Callable[[], str], parent: QObject) -> None:
        """Begin without a chart.

        Args:
            page: names the page of the dock that is open.
        """
        super().__init__(parent)
        self._card, self._runs, self._page = card, runs, page
        self._asked_for = ""
        self._closed: set[str] = set()
        card.hide()
        card.closed.connect(self._close)
        runs.changed.connect(self._see)
        runs.listed.connect(self.choose)

    def open(self, folder: str) -> None:
        """Show the chart of a run on every page, until it is closed."""
        self._asked_for = folder
        self._closed.discard(folder)
        self.choose()

    def choose(self, _page: int = 0) -> None:
        """Show the chart of what is open now."""
        asked = self._runs.get(self._asked_for)
        run = asked or next((run for run in self._runs.all() if self._belongs(run)), None)
        shown = self._runs.get(self._card.folder)
        if run is None and shown is not None and self._is_here(shown) and shown.folder not in self._closed:
            run = shown  # ended, and still of interest
        if run is not None and (run.folder != self._card.folder or not self._card.isVisible()):
            self._card.show()
            self._card.follow(run.folder, run.title)
            self._card.set_live(run.is_live)
        self._card.setVisible(run is not None)

    def _belongs(self, run: RunState) -> bool:
        return run.is_live and self._is_here(run) and run.folder not in self._closed and has_chart(run.folder)

    def _is_here(self, run: RunState) -> bool:
        job = jobs().get(run.job)
        return job is not None and job.page == self._page()

    def _see(self, folder: str) -> None:
        run = self._runs.get(folder)
        if folder == self._card.folder and self._card.isVisible():
            self._card.set_live(run is not None and run.is_live)
        elif run is not None and run.is_live:
            self.choose()

    def _close(self) -> None:
        self._closed.add(self._card.folder)
        self._asked_for = ""
        self._card.hide()
        self.choose()
