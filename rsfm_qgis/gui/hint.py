"""A sentence that helps, quieter than a label; readable on light and dark."""

from __future__ import annotations

from qgis.PyQt.QtGui import QPalette
from qgis.PyQt.QtWidgets import QLabel

OPACITY = 0.65


class Hint(QLabel):
    """Wraps its text, in the colour of text made paler."""

    def __init__(self, text: str = "") -> None:
        super().__init__(text)
        self.setWordWrap(True)
        palette = self.palette()
        colour = palette.color(QPalette.ColorRole.WindowText)
        colour.setAlphaF(OPACITY)
        palette.setColor(QPalette.ColorRole.WindowText, colour)
        self.setPalette(palette)
