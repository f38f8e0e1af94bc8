"""A number with its unit, within its bounds."""

from __future__ import annotations

import math
from typing import Any

from qgis.gui import QgsDoubleSpinBox, QgsSpinBox
from qgis.PyQt.QtWidgets import QVBoxLayout, QWidget

from rsfm_qgis.gui.editor import Editor, Workspace
from rsfm_qgis.schema import Field

FINEST = 8
UNBOUNDED = 1e9
LARGEST_INTEGER = 2**31 - 1


class PlainDoubleSpinBox(QgsDoubleSpinBox):
    """Shows a number with no more digits than it has."""

    def textFromValue(self, value: float) -> str:
        text = self.locale().toString(value, "f", self.decimals())
        point = self.locale().decimalPoint()
        return str(text.rstrip("0").rstrip(point) if point in text else text)


class NumberEditor(Editor):
    """Its value is an integer or a float; the lowest step of an optional one means "automatic", which is None.

    Of others 0 may mean it, and stays 0.
    """

    def __init__(self, field: Field, workspace: Workspace, parent: QWidget | None = None) -> None:
        super().__init__(field, workspace, parent)
        self._integer = field.decimals == 0
        self._exact: float | None = None
        self.box = QgsSpinBox() if self._integer else PlainDoubleSpinBox()
        if not self._integer:
            self.box.setDecimals(FINEST if field.decimals is None else field.decimals)
        self._set_bounds()
        if field.unit:
            self.box.setSuffix(f" {field.unit}")
        self.box.setShowClearButton(False)
        self.box.setKeyboardTracking(False)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.box)
        self.set_value(field.default)
        self.box.valueChanged.connect(self.changed)

    def value(self) -> Any:
        if self.field.optional and self.box.value() == self.box.minimum():
            return None
        if self._integer:
            return int(self.box.value())
        shown = round(float(self.box.value()), FINEST)
        return self._exact if self._exact is not None and self._shows(self._exact) else shown

    def set_value(self, value: Any) -> None:
        self._exact = value
        self.box.setValue(self.box.minimum() if value is None else value)

    def _shows(self, value: float) -> bool:
        """Tell whether this is the number shown, which may have more digits than there is room for."""
        return bool(abs(value - self.box.value()) <= 0.5 * 10.0 ** -self.box.decimals())

    def _set_bounds(self) -> None:
        low = -UNBOUNDED if self.field.minimum is None else self.field.minimum
        high = UNBOUNDED if self.field.maximum is None else self.field.maximum
        step = self.field.step or (1 if self._integer else _step(self.field))
        if self.field.optional:
            low -= step
            self.box.setSpecialValueText(self.tr("automatic"))
        elif low == 0 and self.field.details.get("zero") == "automatic":
            self.box.setSpecialValueText(self.tr("automatic"))
        if self._integer:
            high = min(high, LARGEST_INTEGER)
            self.box.setRange(int(low), int(high))
            self.box.setSingleStep(int(step))
        else:
            self.box.setRange(low, high)
            self.box.setSingleStep(step)


def _step(field: Field) -> float:
    """Choose a step near a tenth of the default, as a power of ten."""
    size = abs(field.default or field.maximum or 1.0)
    return float(10.0 ** (math.floor(math.log10(size)) - 1))
