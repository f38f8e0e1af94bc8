"""The map tool that marks places: a click is a point, a drag draws around an area, a right click removes."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsGeometry, QgsPointXY
from qgis.gui import QgsMapTool, QgsRubberBand
from qgis.PyQt.QtCore import QPoint, Qt, pyqtSignal
from qgis.PyQt.QtGui import QColor

from rsfm_qgis.compatibility import POLYGON

DRAG_PIXELS = 6
REACH_PIXELS = 10


class MarkTool(QgsMapTool):
    """Knows the canvas, and no more.

    Signals:
        marked: a shape in the CRS of the map, a point or a polygon.
        removed: a place on the map, and how far from it a mark may lie.
    """

    marked = pyqtSignal(QgsGeometry)
    removed = pyqtSignal(QgsPointXY, float)

    def __init__(self, canvas: Any) -> None:
        super().__init__(canvas)
        self._canvas = canvas
        self._pressed: QPoint | None = None
        self._band: QgsRubberBand | None = None
        self._path: list[QgsPointXY] = []
        self.colour = QColor("#000000")
        self.setCursor(Qt.CursorShape.CrossCursor)

    def canvasPressEvent(self, event: Any) -> None:
        if event.button() == Qt.MouseButton.LeftButton:
            self._pressed, self._path = event.pos(), [self.toMapCoordinates(event.pos())]

    def canvasMoveEvent(self, event: Any) -> None:
        if self._pressed is None:
            return
        if self._band is None and (event.pos() - self._pressed).manhattanLength() < DRAG_PIXELS:
            return
        if self._band is None:
            self._band = self._make_band()
        place = self.toMapCoordinates(event.pos())
        self._path.append(place)
        self._band.addPoint(place)

    def canvasReleaseEvent(self, event: Any) -> None:
        place = self.toMapCoordinates(event.pos())
        if event.button() == Qt.MouseButton.RightButton:
            self.removed.emit(place, REACH_PIXELS * self._canvas.mapUnitsPerPixel())
            return
        if self._pressed is None:
            return
        drawn = self._path if self._band is not None else []
        pressed = self._path[0]
        self._drop()
        if len(drawn) >= 3:
            parts = QgsGeometry.fromPolygonXY([[*drawn, drawn[0]]]).makeValid().asGeometryCollection()
            shape = max(parts, key=lambda part: part.area(), default=QgsGeometry.fromPointXY(pressed))
            self.marked.emit(shape if shape.area() > 0 else QgsGeometry.fromPointXY(pressed))
        else:
            self.marked.emit(QgsGeometry.fromPointXY(pressed))

    def deactivate(self) -> None:
        self._drop()
        super().deactivate()

    def _make_band(self) -> QgsRubberBand:
        band = QgsRubberBand(self._canvas, POLYGON)
        fill = QColor(self.colour)
        fill.setAlphaF(0.2)
        band.setFillColor(fill)
        band.setStrokeColor(QColor("#000000"))
        band.addPoint(self._path[0])
        return band

    def _drop(self) -> None:
        if self._band is not None:
            self._canvas.scene().removeItem(self._band)
        self._band, self._pressed, self._path = None, None, []
