"""The live chart of a run in the dock: reads the run's events as they are written, a little at a time."""

from __future__ import annotations

from pathlib import Path

from qgis.PyQt.QtCore import QTimer, pyqtSignal
from qgis.PyQt.QtWidgets import QComboBox, QFrame, QHBoxLayout, QToolButton, QVBoxLayout, QWidget

from rsfm_qgis.curves import CurveReader
from rsfm_qgis.gui.chart import Chart, Line
from rsfm_qgis.gui.editor import shrinkable
from rsfm_qgis.gui.elided_label import ElidedLabel
from rsfm_qgis.schema import measures

REPAINT_MILLISECONDS = 500
LOSS = "loss"
HELD_OUT = {LOSS: "validation_loss"}
SCORE, FLOOR = "_miou", "_miou_pixels"


class ChartCard(QFrame):
    """The chart with what it shows, and a button to close it.

    Signals:
        closed: by the user.
    """

    closed = pyqtSignal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.folder = ""
        self.chart = Chart()
        self.title = ElidedLabel()
        self.quantity = shrinkable(QComboBox())
        self.minutes, self.close_button = QToolButton(), QToolButton()
        self._reader = CurveReader(Path())
        self._is_live = False
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._read)
        self._lay_out()
        self.quantity.currentIndexChanged.connect(self._draw)
        self.minutes.toggled.connect(self._draw)

    def follow(self, folder: str, title: str) -> None:
        """Show a run, from its first number on."""
        if folder != self.folder:
            self.folder, self._reader = folder, CurveReader(Path(folder))
            self.quantity.clear()
            self._draw()
        self.title.setText(title)
        self.set_live(True)

    def set_live(self, is_live: bool) -> None:
        """Go on reading while the run is at work; what it wrote last is read in any case."""
        self._is_live = is_live
        if self.folder and not self._timer.isActive():
            self._timer.start(0)

    def _lay_out(self) -> None:
        self.quantity.setToolTip(self.tr("What is drawn on the left axis"))
        self.minutes.setText(self.tr("Minutes"))
        self.minutes.setCheckable(True)
        self.minutes.setAutoRaise(True)
        self.minutes.setToolTip(self.tr("Minutes in place of steps"))
        self.close_button.setText("\u2715")
        self.close_button.setAutoRaise(True)
        self.close_button.setToolTip(self.tr("Close the chart; the button Chart of the run opens it again"))
        self.close_button.clicked.connect(self.closed)
        header = QHBoxLayout()
        header.setSpacing(4)
        header.addWidget(self.title, 1)
        header.addWidget(self.quantity)
        header.addWidget(self.minutes)
        header.addWidget(self.close_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 2, 6, 2)
        layout.setSpacing(2)
        layout.addLayout(header)
        layout.addWidget(self.chart, 1)

    def _read(self) -> None:
        """Read a little; the rest in the next turn, or later where nothing more is written yet."""
        has_more = self._reader.read()
        if has_more:
            self._timer.start(0)
            return
        if self.isVisible():
            self._draw()
        if self._is_live:
            self._timer.start(REPAINT_MILLISECONDS)

    def _draw(self, _changed: object = None) -> None:
        """Draw what was read so far."""
        self._offer_quantities()
        curves = {name: curve.points() for name, curve in self._reader.curves.items()}
        chosen = self.quantity.currentData()
        lines = []
        for colour, name in enumerate((chosen, HELD_OUT.get(chosen, ""))):
            if name in curves:
                lines.append(Line(_with_unit(name), curves[name], colour))
        scores = sorted(name for name in curves if name.endswith(SCORE))
        for colour, name in enumerate(scores[:2], start=2):
            floor = curves.get(name[: -len(SCORE)] + FLOOR)
            lines.append(Line(_title(name), curves[name], colour, True, floor[-1].value if floor else None))
        self.chart.show_lines(lines, self.minutes.isChecked())

    def _offer_quantities(self) -> None:
        """Add quantities that came since; one that equals the loss, as its only part, is not offered."""
        for name, curve in self._reader.curves.items():
            is_extra = name.endswith((SCORE, FLOOR)) or name in HELD_OUT.values()
            if is_extra or self.quantity.findData(name) >= 0:
                continue
            loss = self._reader.curves.get(LOSS)
            if name != LOSS and loss is not None and curve.points()[-1].value == loss.points()[-1].value:
                continue
            self.quantity.blockSignals(True)
            self.quantity.addItem(_title(name), name)
            self.quantity.blockSignals(False)
        self.quantity.setVisible(self.quantity.count() > 1)


def _title(name: str) -> str:
    measure = measures().get(name)
    return measure.title if measure else name.replace("_", " ").capitalize()


def _with_unit(name: str) -> str:
    """Name a quantity of the left axis with its unit: "Speed, windows a second"."""
    measure = measures().get(name)
    return f"{measure.title}, {measure.unit.lower()}" if measure and measure.unit else _title(name)
