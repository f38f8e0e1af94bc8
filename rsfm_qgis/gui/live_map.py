"""A map of the screen that follows the labels: gives the backend what is drawn and what is seen, and shows its answer.

The run goes on while the map is on. Labels and view are files that are replaced as a whole; the map comes back as the
preview of a run, so that it is on the canvas like any other.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

from qgis.core import QgsVectorLayer
from qgis.PyQt.QtCore import QObject, QTimer, pyqtSignal

from rsfm_qgis import layers, looks, paths
from rsfm_qgis.gui.editor import Workspace
from rsfm_qgis.gui.results import Results
from rsfm_qgis.label_copy import write_copy
from rsfm_qgis.slices import Slices

JOB = "probe"
EDIT_MILLISECONDS = 120
"""A moment without edits or moves, before the map is asked for: a drag is many of them."""
TOUCH_MILLISECONDS = 20_000
UNSAFE = r"[^\w -]+"
EDITS = ("featureAdded", "featureDeleted", "featuresDeleted", "geometryChanged", "attributeValueChanged",
         "afterRollBack", "afterCommitChanges", "dataChanged", "rendererChanged")  # fmt: skip


class Task(NamedTuple):
    """What the map is made of.

    Attributes:
        config: of the job, but for the labels' file.
    """

    layer: QgsVectorLayer
    field: str
    title: str
    config: dict[str, Any]


class LiveMap(QObject):
    """Follows the labels while it is on.

    Signals:
        said: how things stand, in a sentence.
        ended: it went off by itself: the parameter it concerns, and why; both empty where somebody stopped the run.
    """

    said = pyqtSignal(str)
    ended = pyqtSignal(str, str)

    def __init__(self, workspace: Workspace, results: Results, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._workspace, self._results = workspace, results
        self._task: Task | None = None
        self._labels = Path()
        self._folder = ""
        self._starts = 0
        self._slices = Slices(self)
        self._edited = self._timer(EDIT_MILLISECONDS, self._write)
        self._moved = self._timer(EDIT_MILLISECONDS, self._look)
        self._touch = QTimer(self)
        self._touch.setInterval(TOUCH_MILLISECONDS)
        self._touch.timeout.connect(self._look)
        workspace.runs.changed.connect(self._see)
        workspace.runs.ended.connect(self._end)
        workspace.project.layersWillBeRemoved.connect(self._lose)
        if workspace.canvas is not None:
            workspace.canvas.extentsChanged.connect(self._move)

    @property
    def task(self) -> Task | None:
        """What it follows; None where it is off."""
        return self._task

    @property
    def folder(self) -> str:
        """The run's folder; empty where there is none."""
        return self._folder

    def is_on(self) -> bool:
        """Tell whether the map follows the labels."""
        return self._task is not None

    def start(self, task: Task) -> None:
        """Follow these labels, in place of those before."""
        if self.is_on():
            self.stop()
        self._task = task
        folder = paths.runs_folder(self._workspace.project).parent / "labels" / task.layer.id()
        self._labels = folder / f"{re.sub(UNSAFE, '_', task.layer.name())}.geojson"
        for name in EDITS:
            getattr(task.layer, name).connect(self._edit)
        self.said.emit(self.tr("Starting\u2026"))
        self._starts += 1
        start = self._starts
        self._submit(lambda: self._ask(task, start))

    def stop(self) -> None:
        """Follow no longer, and take the map away."""
        task, self._task = self._task, None
        self._edited.stop()
        self._moved.stop()
        self._touch.stop()
        self._starts += 1
        self._slices.finish()
        if task is not None:
            for name in EDITS:
                getattr(task.layer, name).disconnect(self._edit)
        folder, self._folder = self._folder, ""
        if folder:
            self._give_up(folder)
        if self._labels.is_file():
            self._labels.unlink()

    def close(self) -> None:
        """Stop without the backend, which is about to go: the run ends when nobody looks."""
        folder, self._folder = self._folder, ""
        look = Path(folder) / looks.LOOK
        if folder and look.is_file():
            look.unlink()
        self.stop()

    def _timer(self, milliseconds: int, method: Any) -> QTimer:
        timer = QTimer(self)
        timer.setSingleShot(True)
        timer.setInterval(milliseconds)
        timer.timeout.connect(method)
        return timer

    def _ask(self, task: Task, start: int) -> None:
        """Start the run, once the labels are written."""

        def started(result: Any, error: dict[str, Any] | None) -> None:
            if error is not None:
                if start == self._starts:
                    self._go_off(error.get("data", {}).get("field") or "", error["message"])
            elif start != self._starts:  # it was switched off meanwhile
                self._give_up(result["run"])
            else:
                self._begin(result["run"], task)

        if start != self._starts:
            return
        look = {**looks.view(self._workspace), "stays": True}
        config = {**task.config, "labels": str(self._labels)}
        self._workspace.runs.start(JOB, config, task.title, started, look)

    def _begin(self, folder: str, task: Task) -> None:
        """Show the run's map below the labels."""
        self._folder = folder
        self._place(folder, task)
        self._results.expect(folder, quietly=True)
        self._touch.start()
        self._look()

    def _place(self, folder: str, task: Task) -> None:
        """Make the group of the map under the layer of the labels, so that they stay in sight."""
        project = self._workspace.project
        group = layers.add_group(project, task.title, folder)
        node = project.layerTreeRoot().findLayer(task.layer.id())
        if node is None:
            return
        parent = node.parent()
        moved = group.clone()
        parent.insertChildNode(parent.children().index(node) + 1, moved)
        project.layerTreeRoot().removeChildNode(group)

    def _edit(self, *_: Any) -> None:
        self._edited.start()

    def _move(self) -> None:
        if self._folder:
            self._moved.start()

    def _write(self) -> None:
        self._submit()

    def _submit(self, then: Any = None) -> None:
        """Write the labels as they are now, a few milliseconds at a time."""
        task = self._task

        def work() -> Any:
            if task is None or task is not self._task:
                return
            yield from write_copy(task.layer, task.field, self._labels)
            if then is not None:
                then()

        self._slices.submit(work)

    def _look(self) -> None:
        """Tell the run what is on the screen now."""
        if self._folder:
            looks.write(self._folder, {**looks.view(self._workspace), "stays": True})

    def _see(self, folder: str) -> None:
        run = self._workspace.runs.get(folder)
        if folder == self._folder and folder and run is not None and run.is_live and run.message:
            self.said.emit(run.message)

    def _end(self, folder: str) -> None:
        """Go off with the run: somebody stopped it, or something went wrong."""
        if folder != self._folder or not folder:
            return
        run = self._workspace.runs.get(folder)
        self._folder = ""
        if run is not None and run.state in {"failed", "lost"}:
            self._go_off(run.error_field, run.error)
        else:
            self._remove(folder)
            self._go_off("", "")

    def _go_off(self, field: str, sentence: str) -> None:
        self.stop()
        self.ended.emit(field, sentence)

    def _lose(self, ids: list[str]) -> None:
        """Go off with the layer of the labels."""
        if self._task is not None and self._task.layer.id() in ids:
            self._go_off("", "")

    def _give_up(self, folder: str) -> None:
        """End a run that nobody wants any more, and remove it: it made nothing that stays."""
        self._results.expect(folder, quietly=True)

        def ended(which: str) -> None:
            if which == folder:
                self._workspace.runs.ended.disconnect(ended)
                self._remove(folder)

        self._workspace.runs.ended.connect(ended)
        self._workspace.runs.cancel(folder)

    def _remove(self, folder: str) -> None:
        QTimer.singleShot(EDIT_MILLISECONDS, lambda: self._workspace.runs.remove(folder))
