"""A chart of the numbers of a run: one quantity on the left, scores on the right, over steps or minutes.

Painted by hand: QGIS comes without a library for charts that every version has.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import NamedTuple

from qgis.PyQt.QtCore import QEvent, QPointF, QRectF, QSize, Qt
from qgis.PyQt.QtGui import QColor, QMouseEvent, QPainter, QPaintEvent, QPalette, QPen, QPolygonF
from qgis.PyQt.QtWidgets import QSizePolicy, QWidget

from rsfm_qgis.curves import Point
from rsfm_qgis.gui.axis import Axis, score_axis, value_axis, write

COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7")
COLOURS_ON_DARK = ("#56b4e9", "#e69f00", "#2fc59a", "#e59ac6")
"""Okabe and Ito's, and lighter ones for dark themes: of the quantity, the same on held-out ground, and two scores."""
INK, INK_ON_DARK, READABLE = "#202020", "#d0d0d0", 90
GAP, DASH = 4, 14
DOT = 2.5
FEW_POINTS = 40


class Line(NamedTuple):
    """A curve of the chart.

    Attributes:
        colour: number of its colour.
        is_score: on the right axis.
        floor: drawn dashed over the whole width in the colour of the line; None where there is none.
    """

    title: str
    points: list[Point]
    colour: int
    is_score: bool = False
    floor: float | None = None


class Chart(QWidget):
    """The plot with its legend, which tells the values under the pointer, or else the latest ones."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setMouseTracking(True)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Expanding)
        self.by_minutes = False
        self.lines: list[Line] = []
        self._pointer: float | None = None

    def show_lines(self, lines: list[Line], by_minutes: bool) -> None:
        """Draw these lines."""
        self.lines, self.by_minutes = [line for line in lines if line.points], by_minutes
        self.update()

    def values_at(self, x: float) -> list[tuple[Line, Point]]:
        """Return the point of each line that is closest to a place on the axis, in steps or minutes."""
        found = []
        for line in self.lines:
            places = [self._place(point) for point in line.points]
            after = min(bisect_left(places, x), len(places) - 1)
            before = max(after - 1, 0)
            closest = before if x - places[before] < places[after] - x else after
            found.append((line, line.points[closest]))
        return found

    def sizeHint(self) -> QSize:
        return QSize(300, self.fontMetrics().height() * 8)

    def minimumSizeHint(self) -> QSize:
        return QSize(120, self.fontMetrics().height() * 6)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        place = event.position() if hasattr(event, "position") else event.localPos()
        self._pointer = place.x()
        self.update()

    def leaveEvent(self, event: QEvent) -> None:
        self._pointer = None
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        if not self.lines:
            painter.setPen(self._faint())
            painter.drawText(self.rect(), Qt.AlignmentFlag.AlignCenter, self.tr("The first values come soon."))
            return
        left, right = self._axes()
        plot, across = self._plot(left, right), self._across()
        pointed = self._pointed(plot, across)
        self._paint_legend(painter, pointed)
        self._paint_grid(painter, plot, across, left, right)
        title = self.tr("minutes") if self.by_minutes else self.tr("steps")
        if pointed:
            title = self._moment(pointed, plot, across)
            painter.setPen(QPen(self._faint(), 1))
            painter.drawLine(QPointF(self._pointer or 0, plot.top()), QPointF(self._pointer or 0, plot.bottom()))
        self._write_centred(painter, plot.center().x(), self.height() - self.fontMetrics().height() - 1.0, title)
        painter.setClipRect(plot.adjusted(-DOT, -DOT, DOT, DOT))
        for line in self.lines:
            axis = right if line.is_score else left
            if axis is not None:
                self._paint_line(painter, plot, across, axis, line)
                for point in [point for own, point in pointed if own is line]:
                    painter.drawEllipse(self._on_plot(plot, across, axis, point), DOT + 1, DOT + 1)

    def _place(self, point: Point) -> float:
        return point.minutes if self.by_minutes else point.step

    def _axes(self) -> tuple[Axis | None, Axis | None]:
        """Return the left and the right axis; None where no line is drawn by it."""
        values = [point.value for line in self.lines if not line.is_score for point in line.points]
        scores = [point.value for line in self.lines if line.is_score for point in line.points]
        scores += [line.floor for line in self.lines if line.floor is not None]
        return value_axis(values) if values else None, score_axis(scores) if scores else None

    def _across(self) -> Axis:
        places = [self._place(point) for line in self.lines for point in (line.points[0], line.points[-1])]
        least = 0.1 if self.by_minutes else 1
        return Axis(min(places), max(max(places), min(places) + least), is_whole=not self.by_minutes)

    def _plot(self, left: Axis | None, right: Axis | None) -> QRectF:
        """Return the rectangle between the axes, below the legend."""
        metrics = self.fontMetrics()

        def room(axis: Axis | None) -> int:
            ticks = axis.ticks(5) if axis is not None else []
            widths = [metrics.horizontalAdvance(write(tick, axis)) for tick in ticks]
            return int(max(widths, default=GAP)) + 2 * GAP

        top = self._legend_places()[-1].y() + metrics.height() * 1.5
        height = self.height() - top - metrics.height() * 2 - GAP
        return QRectF(room(left), top, max(self.width() - room(left) - room(right), 10), max(height, 10))

    def _pointed(self, plot: QRectF, across: Axis) -> list[tuple[Line, Point]]:
        """Return what is under the pointer; nothing where it is not on the plot."""
        if self._pointer is None or not plot.left() <= self._pointer <= plot.right():
            return []
        return self.values_at(self._asked(plot, across))

    def _asked(self, plot: QRectF, across: Axis) -> float:
        share = ((self._pointer or 0) - plot.left()) / plot.width()
        return float(across.low + share * (across.high - across.low))

    def _moment(self, pointed: list[tuple[Line, Point]], plot: QRectF, across: Axis) -> str:
        """Say when the nearest of some points was."""
        asked = self._asked(plot, across)
        nearest = min((point for _, point in pointed), key=lambda point: abs(self._place(point) - asked))
        text: str = self.tr("step {0} \u00b7 {1} min").format(f"{nearest.step:,.0f}", f"{nearest.minutes:.1f}")
        return text

    def _legend_text(self, line: Line, point: Point) -> str:
        value = f"{point.value:.2f}" if line.is_score else write(point.value)
        floor = "" if line.floor is None else " " + self.tr("(pixels {0})").format(f"{line.floor:.2f}")
        return f"{line.title} {value}{floor}"

    def _legend_places(self) -> list[QPointF]:
        """Place the entries of the legend with their latest values, in as many rows as they need."""
        metrics, places = self.fontMetrics(), []
        x, y = float(GAP), float(GAP)
        for line in self.lines:
            width = DASH + GAP + metrics.horizontalAdvance(self._legend_text(line, line.points[-1]))
            if x + width > self.width() and x > GAP:
                x, y = float(GAP), y + metrics.height()
            places.append(QPointF(x, y))
            x += width + 3 * GAP
        return places

    def _paint_legend(self, painter: QPainter, pointed: list[tuple[Line, Point]]) -> None:
        """Write what each colour is, with the value under the pointer or else the latest one."""
        metrics = self.fontMetrics()
        points = [point for _, point in pointed] or [line.points[-1] for line in self.lines]
        for line, point, place in zip(self.lines, points, self._legend_places()):
            middle = place.y() + metrics.height() / 2
            painter.setPen(self._pen(line))
            painter.drawLine(QPointF(place.x(), middle), QPointF(place.x() + DASH, middle))
            painter.setPen(self._ink())
            text, x = self._legend_text(line, point), place.x() + DASH + GAP
            text = metrics.elidedText(text, Qt.TextElideMode.ElideRight, int(self.width() - x))
            painter.drawText(QPointF(x, place.y() + metrics.ascent()), text)

    def _paint_grid(self, painter: QPainter, plot: QRectF, across: Axis, left: Axis | None, right: Axis | None) -> None:
        metrics = self.fontMetrics()
        rows = max(2, int(plot.height() / (metrics.height() * 1.6)))
        for axis, side in ((left, Qt.AlignmentFlag.AlignRight), (right, Qt.AlignmentFlag.AlignLeft)):
            if axis is None:
                continue
            for tick in axis.ticks(min(rows, 5)):
                y = plot.bottom() - axis.share(tick) * plot.height()
                if axis is left or left is None:
                    painter.setPen(QPen(self._faint(60), 1))
                    painter.drawLine(QPointF(plot.left(), y), QPointF(plot.right(), y))
                painter.setPen(self._faint())
                x = 0.0 if side == Qt.AlignmentFlag.AlignRight else plot.right() + GAP
                width = plot.left() - GAP if side == Qt.AlignmentFlag.AlignRight else self.width() - x
                box = QRectF(x, y - metrics.height() / 2, width, metrics.height())
                painter.drawText(box, side | Qt.AlignmentFlag.AlignVCenter, write(tick, axis))
        columns = max(2, int(plot.width() / (metrics.horizontalAdvance("00,000") * 1.5)))
        for tick in across.ticks(columns):
            x = plot.left() + across.share(tick) * plot.width()
            painter.setPen(QPen(self._faint(60), 1))
            painter.drawLine(QPointF(x, plot.bottom()), QPointF(x, plot.bottom() + GAP))
            self._write_centred(painter, x, plot.bottom() + GAP, write(tick, across))

    def _write_centred(self, painter: QPainter, x: float, y: float, text: str) -> None:
        width = self.fontMetrics().horizontalAdvance(text)
        x = min(max(x - width / 2, 0), self.width() - width)
        painter.setPen(self._faint())
        painter.drawText(QPointF(x, y + self.fontMetrics().ascent()), text)

    def _paint_line(self, painter: QPainter, plot: QRectF, across: Axis, axis: Axis, line: Line) -> None:
        pen = self._pen(line)
        if line.floor is not None:
            y = plot.bottom() - axis.share(line.floor) * plot.height()
            painter.setPen(QPen(pen.color(), 1, Qt.PenStyle.DashLine))
            painter.drawLine(QPointF(plot.left(), y), QPointF(plot.right(), y))
        places = QPolygonF([self._on_plot(plot, across, axis, point) for point in line.points])
        painter.setPen(pen)
        painter.drawPolyline(places)
        if line.is_score and len(line.points) <= FEW_POINTS:
            painter.setBrush(pen.color())
            for place in places:
                painter.drawEllipse(place, DOT, DOT)
            painter.setBrush(Qt.BrushStyle.NoBrush)

    def _on_plot(self, plot: QRectF, across: Axis, axis: Axis, point: Point) -> QPointF:
        x = plot.left() + across.share(self._place(point)) * plot.width()
        return QPointF(x, plot.bottom() - axis.share(point.value) * plot.height())

    def _pen(self, line: Line) -> QPen:
        return QPen(QColor((COLOURS_ON_DARK if self._is_dark() else COLOURS)[line.colour]), 1.6)

    def _is_dark(self) -> bool:
        return bool(self.palette().color(QPalette.ColorRole.Window).lightness() < 128)

    def _ink(self) -> QColor:
        """Return the colour of text; QGIS's dark theme leaves the palette's own unreadable on its background."""
        text, behind = (
            self.palette().color(role) for role in (QPalette.ColorRole.WindowText, QPalette.ColorRole.Window)
        )
        if abs(text.lightness() - behind.lightness()) >= READABLE:
            return QColor(text)
        return QColor(INK_ON_DARK if self._is_dark() else INK)

    def _faint(self, strength: int = 170) -> QColor:
        colour = self._ink()
        colour.setAlpha(strength)
        return colour
