"""What a swipe looks like: a picture on either side of a vertical line over the canvas, with a handle and two names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from qgis.core import QgsMapSettings
from qgis.gui import QgsMapCanvasItem
from qgis.PyQt.QtCore import QPointF, QRectF, Qt
from qgis.PyQt.QtGui import QColor, QImage, QPainter, QPen, QPolygonF

ABOVE_ALL = 1000
HANDLE, ARROW, GAP = 13, 6, 6
LINE, SHADOW = QColor("#ffffff"), QColor(0, 0, 0, 150)


class Drawn(NamedTuple):
    """A picture of the map, and the settings that it was drawn with."""

    image: QImage
    settings: QgsMapSettings


class SwipeItem(QgsMapCanvasItem):
    """Shows pictures where they belong, also while the map moves on before there are new ones. Knows no layers."""

    def __init__(self, canvas: Any, names: Sequence[str]) -> None:
        super().__init__(canvas)
        self._canvas, self._names = canvas, list(names)
        self._share = 0.5
        self._drawn: list[Drawn | None] = [None, None]
        self.setZValue(ABOVE_ALL)

    def move_line(self, x: float) -> None:
        """Put the line at a column of the canvas."""
        self._share = min(max(x / max(self._size().width(), 1), 0.0), 1.0)
        self.update()

    def line(self) -> float:
        """Return the column of the line."""
        return self._share * float(self._size().width())

    def show_picture(self, side: int, drawn: Drawn) -> None:
        """Show a picture on a side: 0 is left of the line, 1 right of it."""
        self._drawn[side] = drawn
        self.update()

    def boundingRect(self) -> QRectF:
        size = self._size()
        return QRectF(0, 0, size.width(), size.height())

    def updatePosition(self) -> None:
        self.prepareGeometryChange()
        self.update()

    def paint(self, painter: QPainter, *_: Any) -> None:
        whole, x = self.boundingRect(), self.line()
        parts = QRectF(0, 0, x, whole.height()), QRectF(x, 0, whole.width() - x, whole.height())
        for drawn, part in zip(self._drawn, parts):
            if drawn is not None and self._fits(drawn):
                painter.save()
                painter.setClipRect(part)
                painter.fillRect(part, drawn.settings.backgroundColor())
                painter.drawImage(self._place(drawn), drawn.image)
                painter.restore()
        self._draw_line(painter, x, whole.height())
        self._draw_names(painter, x)

    def _size(self) -> Any:
        return self._canvas.mapSettings().outputSize()

    def _fits(self, drawn: Drawn) -> bool:
        """Tell whether a picture can be moved and scaled to where the map is now."""
        own = self._canvas.mapSettings()
        same_crs = own.destinationCrs() == drawn.settings.destinationCrs()
        return bool(same_crs and own.rotation() == drawn.settings.rotation())

    def _place(self, drawn: Drawn) -> QRectF:
        size, to_map = drawn.settings.outputSize(), drawn.settings.mapToPixel()
        corners = [to_map.toMapCoordinates(x, y) for x, y in ((0, 0), (size.width(), size.height()))]
        return QRectF(*(self.toCanvasCoordinates(corner) for corner in corners))

    def _draw_line(self, painter: QPainter, x: float, height: float) -> None:
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        for colour, width in ((SHADOW, 4), (LINE, 2)):
            painter.setPen(QPen(colour, width))
            painter.drawLine(QPointF(x, 0), QPointF(x, height))
        middle = QPointF(x, height / 2)
        painter.setPen(QPen(SHADOW, 1))
        painter.setBrush(LINE)
        painter.drawEllipse(middle, HANDLE, HANDLE)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor("#404040"))
        for way in (-1, 1):
            tip, back = middle + QPointF(way * (HANDLE - 3), 0), middle.x() + way * (HANDLE - 3 - ARROW)
            painter.drawPolygon(
                QPolygonF([tip, QPointF(back, middle.y() - ARROW + 1), QPointF(back, middle.y() + ARROW - 1)])
            )

    def _draw_names(self, painter: QPainter, x: float) -> None:
        metrics = painter.fontMetrics()
        for name, way in zip(self._names, (-1, 1)):
            width, height = metrics.boundingRect(name).width() + 2 * GAP, metrics.height() + GAP
            left = x - width - GAP if way < 0 else x + GAP
            box = QRectF(left, GAP, width, height)
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(SHADOW)
            painter.drawRoundedRect(box, 3, 3)
            painter.setPen(LINE)
            painter.drawText(box, Qt.AlignmentFlag.AlignCenter, name)
