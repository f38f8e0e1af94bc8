"""What happens when a run ends: its layers come onto the map, and the message bar says so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from qgis.core import Qgis, QgsCoordinateTransform, QgsRectangle
from qgis.PyQt.QtCore import QObject, QUrl
from qgis.PyQt.QtGui import QDesktopServices
from qgis.PyQt.QtWidgets import QPushButton

from rsfm_qgis import layers
from rsfm_qgis.gui.editor import Workspace
from rsfm_qgis.gui.growing_layers import GrowingLayers
from rsfm_qgis.gui.turns import Turns
from rsfm_qgis.runs import RunState
from rsfm_qgis.schema import jobs


class Results(QObject):
    """Shows what runs made. Runs started here show their layers by themselves, others when asked."""

    def __init__(self, workspace: Workspace, message_bar: Any, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._workspace, self._bar = workspace, message_bar
        self._turns = Turns(self)
        self._quiet: set[str] = set()
        self._growing = GrowingLayers(workspace, self._turns, self)
        workspace.runs.ended.connect(self._end)

    def expect(self, folder: str, quietly: bool = False) -> None:
        """Show the layers of this run when it ends; quietly, without a word where nothing went wrong."""
        if quietly:
            self._quiet.add(folder)
        self._growing.follow(folder)

    def warn(self, text: str) -> None:
        """Say in the message bar what went wrong."""
        self._bar.pushMessage("RSFM", text, Qgis.MessageLevel.Warning, 0)

    def show(self, folder: str) -> None:
        """Bring a run's layers onto the map and zoom to them."""
        self._turns.add(self._show(folder))

    def _show(self, folder: str) -> Iterator[None]:
        run = self._workspace.runs.get(folder)
        if run is not None and run.is_live:
            self._growing.follow(folder)
        for _ in layers.add_run(self._workspace.project, Path(folder)):
            yield
        group = layers.find_group(self._workspace.project, folder)
        if group is None:
            self.warn(self.tr("This run made no layers, or they were removed."))
            return
        group.setItemVisibilityChecked(True)
        self._zoom_to([node.layer() for node in group.findLayers() if node.layer() is not None])

    def open_report(self, folder: str) -> None:
        """Open a run's report in the browser."""
        QDesktopServices.openUrl(QUrl.fromLocalFile(str(Path(folder) / "report.html")))

    def open_log(self, folder: str) -> None:
        """Open what a run printed."""
        QDesktopServices.openUrl(QUrl.fromLocalFile(str(Path(folder) / "log.txt")))

    def _end(self, folder: str) -> None:
        self._turns.add(self._open(folder))

    def _open(self, folder: str) -> Iterator[None]:
        """Bring the layers of a run that was started here onto the map, then tell of its end."""
        run = self._workspace.runs.get(folder)
        if run is None:
            return
        if self._growing.is_followed(folder):
            yield from self._growing.finish(folder)
        if folder not in self._quiet or run.state in {"failed", "lost"}:
            yield from self._tell(run)

    def _tell(self, run: RunState) -> Iterator[None]:
        """Say in the message bar how a run ended: the message is made in one turn and shown in the next."""
        item, level = self._make_message(run)
        yield
        self._bar.pushWidget(item, level, 0 if level == Qgis.MessageLevel.Warning else 15)

    def _make_message(self, run: RunState) -> tuple[Any, Any]:
        if run.state == "done":
            text, level = self._headline(run), Qgis.MessageLevel.Success
        elif run.state in {"stopped", "cancelled"}:
            text, level = f"{run.state.capitalize()}.", Qgis.MessageLevel.Info
        else:
            text, level = run.error or run.state.capitalize(), Qgis.MessageLevel.Warning
        job = jobs().get(run.job)  # its name alone: the bar has two short lines, and the run strip names the rest
        item = self._bar.createMessage(job.title if job else run.title, " ".join([text, *run.warnings[:1]]))
        for title, method in self._offers(run):
            self._add_button(item, title, method, run.folder)
        return item, level

    def _headline(self, run: RunState) -> str:
        """Return the first sentence of what was found: the bar has one line, the report has the rest."""
        return run.sentence.partition(". ")[0].rstrip(".") + "." if run.sentence else self.tr("Done.")

    def _offers(self, run: RunState) -> list[tuple[str, Any]]:
        offers = []
        if run.state in {"done", "stopped"} and layers.find_group(self._workspace.project, run.folder) is not None:
            offers.append((self.tr("Show"), self.show))
        if run.state in {"done", "stopped"} and (Path(run.folder) / "report.html").is_file():
            offers.append((self.tr("Report"), self.open_report))
        if run.state in {"failed", "lost"}:
            offers.append((self.tr("Open Log"), self.open_log))
        return offers

    def _add_button(self, item: Any, title: str, method: Any, folder: str) -> None:
        button = QPushButton(title)

        def clicked() -> None:
            method(folder)

        button.clicked.connect(clicked)
        item.layout().addWidget(button)

    def _zoom_to(self, shown: list[Any]) -> None:
        canvas = self._workspace.canvas
        if canvas is None:
            return
        extent = QgsRectangle()
        for layer in shown:
            transform = QgsCoordinateTransform(
                layer.crs(), canvas.mapSettings().destinationCrs(), self._workspace.project
            )
            extent.combineExtentWith(transform.transformBoundingBox(layer.extent()))
        if not extent.isEmpty():
            extent.scale(1.05)
            canvas.setExtent(extent)
            canvas.refresh()
