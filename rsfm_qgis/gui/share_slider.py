"""A slider of the share of an area that is shown, from 0.1 %, finer where the share is small."""

from __future__ import annotations

import math

from qgis.PyQt.QtCore import Qt, pyqtSignal
from qgis.PyQt.QtWidgets import QHBoxLayout, QLabel, QSlider, QWidget

LEAST, MOST, STEPS = 0.1, 50.0, 200


class ShareSlider(QWidget):
    """Shows and sets a share; `most` is where the slider ends, in %.

    Signals:
        moved: the share in %, while the slider is dragged.
    """

    moved = pyqtSignal(float)

    def __init__(self, percent: float, most: float = MOST) -> None:
        super().__init__()
        self._most = most
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setRange(0, STEPS)
        self.slider.setMinimumWidth(60)
        self._label = QLabel()
        self._label.setMinimumWidth(self._label.fontMetrics().horizontalAdvance("88.8 %"))
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.slider, 1)
        layout.addWidget(self._label)
        self.set_percent(percent)
        self.slider.valueChanged.connect(self._tell)

    def percent(self) -> float:
        """Return the share, to a tenth of a percent."""
        return float(round(LEAST * (self._most / LEAST) ** (self.slider.value() / STEPS), 1))

    def set_percent(self, percent: float) -> None:
        """Show a share."""
        place = math.log(min(max(percent, LEAST), self._most) / LEAST) / math.log(self._most / LEAST)
        self.slider.setValue(round(place * STEPS))
        self._write()

    def _write(self) -> None:
        self._label.setText(f"{self.percent():g} %")

    def _tell(self, _value: int) -> None:
        self._write()
        self.moved.emit(self.percent())
