"""Below the form of a job that names two dates: the button that compares them by a line that can be dragged."""

from __future__ import annotations

from qgis.PyQt.QtGui import QIcon
from qgis.PyQt.QtWidgets import QHBoxLayout, QPushButton, QWidget

from rsfm_qgis import paths
from rsfm_qgis.gui.form import Form
from rsfm_qgis.gui.hint import Hint
from rsfm_qgis.gui.swipe_action import SwipeAction, layers_of

BEFORE, AFTER = "before", "after"


class SwipeBar(QWidget):
    """A button that stays pressed while two rasters are compared, and a sentence where that cannot be."""

    def __init__(self, form: Form, swipe: SwipeAction) -> None:
        super().__init__()
        self._form, self._swipe = form, swipe
        self.status = Hint()
        self.button = QPushButton(QIcon(paths.icon("swipe")), self.tr("Swipe"))
        self.button.setToolTip(
            self.tr("Draws the earlier raster left of a line that you drag over the map, the later one right of it")
        )
        self.button.setCheckable(True)
        self.button.setChecked(swipe.action.isChecked())
        layout = QHBoxLayout(self)
        layout.setContentsMargins(6, 2, 6, 2)
        layout.addWidget(self.status, 1)
        layout.addWidget(self.button)
        self.button.clicked.connect(self._press)
        swipe.action.toggled.connect(self.button.setChecked)
        form.changed.connect(self._forget)

    def _press(self, is_on: bool) -> None:
        found = layers_of([self._form.editor(name).value() for name in (BEFORE, AFTER)]) if is_on else []
        self._swipe.compare(found)
        self.button.setChecked(self._swipe.action.isChecked())
        self.status.setText(self._why_not() if is_on and not found else "")

    def _why_not(self) -> str:
        return str(
            self.tr(
                "Only layers of the map can be compared so. Choose two under \u201cBefore\u201d and "
                "\u201cAfter\u201d, or add the files to the map."
            )
        )

    def _forget(self) -> None:
        self.status.setText("")


def names_two_dates(form: Form) -> bool:
    """Tell whether a form has the two rasters that can be compared."""
    return {BEFORE, AFTER} <= {field.name for field in form.fields}
