"""Beside the form of fine-tuning: the map that follows the labels, and where to label next."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsCoordinateTransform, QgsCsException
from qgis.PyQt.QtCore import QTimer
from qgis.PyQt.QtWidgets import QCheckBox, QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from rsfm_qgis import layers
from rsfm_qgis.gui.editor import InputError, Workspace
from rsfm_qgis.gui.hint import Hint
from rsfm_qgis.gui.job_panel import JobPanel
from rsfm_qgis.gui.live_map import LiveMap, Task
from rsfm_qgis.gui.results import Results

SUGGEST = "suggest_labels"
CALM_MILLISECONDS = 400
KNOWN_FEATURES = {"pretrained", "texture", "pixels"}
DIGITS = 12


class LabellingBar(QWidget):
    """A switch, a button and a sentence on how things stand. Reads what it needs from the form."""

    def __init__(self, panel: JobPanel, workspace: Workspace, results: Results) -> None:
        super().__init__()
        self._panel, self._workspace, self._results = panel, workspace, results
        self.live = LiveMap(workspace, results, self)
        self.switch = QCheckBox(self.tr("Map while I label"))
        self.switch.setToolTip(
            self.tr("Maps what is on the screen from the polygons that are there, and again after each edit and move")
        )
        self.next = QPushButton(self.tr("Where to label next"))
        self.next.setToolTip(
            self.tr("Numbers ten places on the screen where classes are hard to tell apart; zoom out to look further")
        )
        self.status = Hint()
        self._suggested = ""
        self._waiting = ""
        self._lay_out()
        self._changed = QTimer(self)
        self._changed.setSingleShot(True)
        self._changed.setInterval(CALM_MILLISECONDS)
        self._changed.timeout.connect(self._restart)
        self.switch.toggled.connect(self._toggle)
        self.next.clicked.connect(self._suggest)
        self.live.said.connect(self.status.setText)
        self.live.ended.connect(self._go_off)
        panel.form.changed.connect(self._form_changed)
        workspace.runs.ended.connect(self._end)

    def _lay_out(self) -> None:
        row = QHBoxLayout()
        row.addWidget(self.switch, 1)
        row.addWidget(self.next)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 2, 6, 2)
        layout.setSpacing(2)
        layout.addLayout(row)
        layout.addWidget(self.status)

    def _toggle(self, on: bool) -> None:
        if on:
            task = self._task()
            if task is None:
                self.switch.setChecked(False)
            else:
                self.live.start(task)
        elif self.live.is_on():
            self.live.stop()
            self.status.setText("")

    def _form_changed(self) -> None:
        if self.live.is_on():
            self._changed.start()

    def _restart(self) -> None:
        """Take what the form says now."""
        if not self.live.is_on():
            return
        task = self._task(mark=False)
        if task is None:
            self.switch.setChecked(False)
        elif task != self.live.task:
            self.live.start(task)

    def _task(self, mark: bool = True) -> Task | None:
        """Read the form; None where something is missing, which is marked."""
        form = self._panel.form
        problem = form.problem()
        if problem is not None:
            if mark:
                self._panel.mark(problem.field, problem.sentence)
            return None
        layer = form.editor("labels").layer()
        if layer is None or not layer.isValid():
            return None
        field = form.editor("class_field").value() or ""
        title = self.tr("Map while I label \u00b7 {0}").format(layer.name())
        return Task(layer, field, title, {**self._shared(), "class_field": field})

    def _shared(self) -> dict[str, Any]:
        """Return what the jobs of labelling share with fine-tuning."""
        form = self._panel.form
        features = form.editor("features").value()
        return {
            "raster": form.editor("raster").value(),
            "model": form.editor("model").value(),
            "features": features if features in KNOWN_FEATURES else "auto",
            "device": form.editor("device").value(),
            "seed": form.editor("seed").value(),
        }

    def _go_off(self, field: str, sentence: str) -> None:
        self.switch.setChecked(False)
        self.status.setText(sentence)
        if field:
            self._panel.mark(field, sentence)

    def _suggest(self) -> None:
        """Ask for places to label next, on what is on the screen."""
        task = self._task()
        if task is None:
            return
        try:
            labels = self._panel.form.editor("labels").value()
        except InputError as error:
            self.status.setText(str(error))
            return
        config = {**task.config, "labels": labels, "area": self._area()}
        self.next.setEnabled(False)

        def started(result: Any, error: dict[str, Any] | None) -> None:
            if error is not None:
                self.next.setEnabled(True)
                self._panel.mark(error.get("data", {}).get("field") or "", error["message"])
                return
            self._waiting = result["run"]
            self._results.expect(result["run"])

        title = self.tr("Where to label next \u00b7 {0}").format(task.layer.name())
        self._workspace.runs.start(SUGGEST, config, title, started)

    def _end(self, folder: str) -> None:
        """Take the places before off the map when the new ones are there."""
        if folder != self._waiting or not folder:
            return
        self._waiting = ""
        self.next.setEnabled(True)
        run = self._workspace.runs.get(folder)
        if run is not None and run.state == "failed":
            self._panel.mark(run.error_field, run.error)
        elif run is not None and run.state == "done":
            before, self._suggested = self._suggested, folder
            group = layers.find_group(self._workspace.project, before)
            if group is not None:
                self._workspace.project.removeMapLayers([node.layerId() for node in group.findLayers()])
                group.parent().removeChildNode(group)

    def _area(self) -> str | None:
        """Return what is on the screen, in the CRS of the raster; None where that cannot be told."""
        canvas = self._workspace.canvas
        crs = self._panel.form.editor("raster").crs()
        if canvas is None or canvas.extent().isEmpty() or not crs.isValid():
            return None
        own = canvas.mapSettings().destinationCrs()
        try:
            box = QgsCoordinateTransform(own, crs, self._workspace.project).transformBoundingBox(canvas.extent())
        except QgsCsException:
            return None
        sides = (box.xMinimum(), box.yMinimum(), box.xMaximum(), box.yMaximum())
        return ",".join(f"{side:.{DIGITS}g}" for side in sides)
