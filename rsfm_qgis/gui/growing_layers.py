"""Layers that grow while their runs go on: previews first, each replaced by the finished layer when it is there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from qgis.PyQt.QtCore import QObject, QTimer

from rsfm_qgis import layers, looks, preview_layers
from rsfm_qgis.gui.editor import Workspace
from rsfm_qgis.gui.turns import Turns

MOVED_MILLISECONDS = 700


class GrowingLayers(QObject):
    """Follows runs that were started from this project, here or before QGIS was closed."""

    def __init__(self, workspace: Workspace, turns: Turns, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._workspace, self._turns = workspace, turns
        self._followed: set[str] = set()
        self._known: set[str] = set()
        self._waiting: set[str] = set()
        self._shown: dict[str, str] = {}
        self._dismissed: set[str] = set()
        workspace.runs.listed.connect(self._take_up)
        workspace.runs.changed.connect(self._see)
        self._moved = QTimer(self)
        self._moved.setSingleShot(True)
        self._moved.setInterval(MOVED_MILLISECONDS)
        self._moved.timeout.connect(self._look_again)
        if workspace.canvas is not None:
            workspace.canvas.extentsChanged.connect(self._moved.start)

    def follow(self, folder: str) -> None:
        """Show a run while it goes on, and what it made at its end."""
        self._followed.add(folder)
        self._dismissed -= {key for key in self._dismissed if key.startswith(folder)}
        self._see(folder)

    def is_followed(self, folder: str) -> bool:
        """Tell whether a run is shown."""
        return folder in self._followed

    def finish(self, folder: str) -> Iterator[None]:
        """Show what an ended run made, then take its previews away."""
        self._followed.discard(folder)
        run = self._workspace.runs.get(folder)
        if run is not None and run.state != "cancelled":
            for _ in layers.add_run(self._workspace.project, Path(folder)):
                yield
        preview_layers.remove(self._workspace.project, folder)

    def _take_up(self) -> None:
        """Follow what goes on since before this QGIS was opened, and end what ended meanwhile."""
        for run in self._workspace.runs.all():
            if run.folder in self._known:
                continue
            self._known.add(run.folder)
            if run.is_live and looks.is_looked_at(run.folder, self._workspace.project):
                self.follow(run.folder)
            elif not run.is_live and preview_layers.find(self._workspace.project, run.folder):
                self._turns.add(self.finish(run.folder))

    def _look_again(self) -> None:
        """Tell runs where the canvas is now."""
        for folder in self._followed:
            run = self._workspace.runs.get(folder)
            if run is not None and run.is_live:
                looks.keep(folder, self._workspace)

    def _see(self, folder: str) -> None:
        run = self._workspace.runs.get(folder)
        if run is None or folder not in self._followed or folder in self._waiting or not run.is_live:
            return
        if any(self._shown.get(output.key or output.path) != output.path for output in (*run.outputs, *run.previews)):
            self._waiting.add(folder)
            self._turns.add(self._show(folder))

    def _show(self, folder: str) -> Iterator[None]:
        """Bring finished layers onto the map, then previews of the rest, one at each step."""
        self._waiting.discard(folder)
        run, project = self._workspace.runs.get(folder), self._workspace.project
        if run is None or not run.is_live:
            return
        new = [output for output in run.outputs if self._shown.get(output.path) != output.path]
        for output in new:
            self._shown[output.path] = output.path
        for _ in layers.add_run(project, Path(folder), [output for output in new if Path(output.path).is_file()]):
            yield
        there = [output for output in run.outputs if Path(output.path).is_file()]
        for preview in run.previews:
            if preview_layers.is_finished(preview, there):
                preview_layers.remove(project, folder, preview.key)
            elif self._shown.get(preview.key) != preview.path and preview.key not in self._dismissed:
                is_known = preview.key in self._shown
                if preview_layers.show(project, folder, run.title, preview, only_there=is_known):
                    self._shown[preview.key] = preview.path
                else:
                    self._dismissed.add(preview.key)  # the user took it off the map
                yield
