"""The map tool that compares two rasters: one left of a line that can be dragged, the other right of it.

What lies above them on the map, such as polygons, is drawn on both sides. Pictures are rendered by QGIS's own threads;
the window never waits for one.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from qgis.core import QgsMapLayer, QgsMapRendererParallelJob, QgsMapSettings, QgsProject, QgsRasterLayer
from qgis.gui import QgsMapTool
from qgis.PyQt.QtCore import Qt, QTimer, pyqtSignal

from rsfm_qgis.gui.swipe_item import Drawn, SwipeItem

SETTLED_MILLISECONDS = 60


class Rendering(NamedTuple):
    """A picture that is being rendered."""

    job: QgsMapRendererParallelJob
    settings: QgsMapSettings


class SwipeTool(QgsMapTool):
    """Follows the canvas; ends with another tool, with Escape, and when one of its layers goes.

    Signals:
        ended: the map is as it was before.
    """

    ended = pyqtSignal()

    def __init__(self, canvas: Any) -> None:
        super().__init__(canvas)
        self._canvas = canvas
        self._layers: list[QgsRasterLayer] = []
        self.item: SwipeItem | None = None
        self._rendering: dict[int, Rendering] = {}
        self._kept: list[QgsMapRendererParallelJob] = []
        self._is_dragged = False
        self._settled = QTimer(self)
        self._settled.setSingleShot(True)
        self._settled.setInterval(SETTLED_MILLISECONDS)
        self._settled.timeout.connect(self._render)
        self._forgetting = QTimer(self)
        self._forgetting.setSingleShot(True)
        self._forgetting.timeout.connect(self._forget)
        self.setCursor(Qt.CursorShape.SplitHCursor)

    def compare(self, left: QgsRasterLayer, right: QgsRasterLayer) -> None:
        """Show two layers; the canvas gets this tool."""
        self.finish()
        self._layers = [left, right]
        self.item = SwipeItem(self._canvas, [left.name(), right.name()])
        for layer in self._layers:
            layer.repaintRequested.connect(self._wait)
        QgsProject.instance().layersWillBeRemoved.connect(self._see_removed)
        self._canvas.renderStarting.connect(self._wait)
        self._canvas.extentsChanged.connect(self._wait)
        self._canvas.setMapTool(self)
        self._canvas.setFocus()
        self._render()

    def finish(self) -> None:
        """Take the line away, and the tool from the canvas."""
        if self._canvas.mapTool() is self:
            self._canvas.unsetMapTool(self)
        self._end()

    def close(self) -> None:
        """End, and wait for threads that still render: nothing of this may outlive the plugin."""
        self.finish()
        for job in self._kept:
            job.cancel()
        self._kept = []

    def is_busy(self) -> bool:
        """Tell whether a picture is to come."""
        return bool(self._rendering) or self._settled.isActive()

    def deactivate(self) -> None:
        super().deactivate()
        self._end()

    def canvasPressEvent(self, event: Any) -> None:
        self._is_dragged = event.button() == Qt.MouseButton.LeftButton
        self.canvasMoveEvent(event)

    def canvasMoveEvent(self, event: Any) -> None:
        if self.item is not None and self._is_dragged:
            self.item.move_line(event.pos().x())

    def canvasReleaseEvent(self, event: Any) -> None:
        self._is_dragged = False

    def keyPressEvent(self, event: Any) -> None:
        if event.key() == Qt.Key.Key_Escape:
            self.finish()
        else:
            event.ignore()

    def _see_removed(self, ids: list[str]) -> None:
        if any(layer.id() in ids for layer in self._layers):
            self.finish()

    def _wait(self) -> None:
        """Render once the map rests."""
        if self.item is not None:
            self._settled.start()

    def _render(self) -> None:
        """Render both sides anew, each with what lies above it on the map."""
        if self.item is None:
            return
        above = [layer for layer in self._canvas.layers() if not isinstance(layer, QgsRasterLayer)]
        for side, layer in enumerate(self._layers):
            self._render_side(side, [*above, layer])

    def _render_side(self, side: int, layers: list[QgsMapLayer]) -> None:
        self._give_up(side)
        settings = QgsMapSettings(self._canvas.mapSettings())
        settings.setLayers(layers)
        job = QgsMapRendererParallelJob(settings)
        self._forget()
        job.finished.connect(self._take)
        self._rendering[side] = Rendering(job, settings)
        self._kept.append(job)
        job.start()

    def _take(self) -> None:
        """Show what was rendered."""
        for side, (job, settings) in list(self._rendering.items()):
            if not job.isActive():
                del self._rendering[side]
                if self.item is not None:
                    self.item.show_picture(side, Drawn(job.renderedImage(), settings))
        self._forgetting.start(0)  # a job cannot go while it tells of its end

    def _forget(self) -> None:
        """Let go of jobs that have ended; one that goes before holds the window until it has."""
        self._kept = [job for job in self._kept if job.isActive()]

    def _give_up(self, side: int) -> None:
        rendering = self._rendering.pop(side, None)
        if rendering is not None:
            rendering.job.finished.disconnect(self._take)
            rendering.job.cancelWithoutBlocking()

    def _end(self) -> None:
        if self.item is None:
            return
        item, self.item, self._is_dragged = self.item, None, False
        self._settled.stop()
        for side in list(self._rendering):
            self._give_up(side)
        for layer in self._layers:
            layer.repaintRequested.disconnect(self._wait)
        QgsProject.instance().layersWillBeRemoved.disconnect(self._see_removed)
        self._canvas.renderStarting.disconnect(self._wait)
        self._canvas.extentsChanged.disconnect(self._wait)
        self._layers = []
        self._canvas.scene().removeItem(item)
        self.ended.emit()
