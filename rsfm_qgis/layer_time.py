"""When a layer is visible: QGIS's time slider shows a dated layer on its day, or for as long as its date is known."""

from __future__ import annotations

import re

from qgis.core import QgsDateTimeRange, QgsMapLayer, QgsProject, QgsRasterLayer
from qgis.PyQt.QtCore import QDate, QDateTime, Qt, QTime

from rsfm_qgis.compatibility import FIXED_RASTER_RANGE, FIXED_VECTOR_RANGE

SCOPE, TIME = "rsfm", "time"
ISO = Qt.DateFormat.ISODate
DATE = re.compile(r"(\d{4})(?:-(\d\d)(?:-(\d\d))?)?")


def set_time(layer: QgsMapLayer, date: str) -> None:
    """Make a layer visible at its date only, while the time slider is on; one without a date always is."""
    range = time_of(date)
    if range is None:
        return
    properties = layer.temporalProperties()
    properties.setMode(FIXED_RASTER_RANGE if isinstance(layer, QgsRasterLayer) else FIXED_VECTOR_RANGE)
    properties.setFixedTemporalRange(range)
    properties.setIsActive(True)


def time_of(date: str) -> QgsDateTimeRange | None:
    """Return the day of a date in UTC, or its month or year where no more is known; None for no date."""
    found = DATE.match(date)
    if found is None:
        return None
    year, month, day = (int(part or 1) for part in found.groups())
    first = QDate(year, month, day)
    if not first.isValid():
        return None
    end = first.addDays(1) if found[3] else first.addMonths(1) if found[2] else first.addYears(1)
    return QgsDateTimeRange(_midnight(first), _midnight(end), True, False)


def widen_project_time(project: QgsProject, layers: list[QgsMapLayer]) -> None:
    """Let the time slider reach over layers of several dates, unless the user chose its range."""
    settings = project.timeSettings()
    known, chosen = settings.temporalRange(), project.readEntry(SCOPE, TIME)[0]
    ranges = [
        layer.temporalProperties().fixedTemporalRange() for layer in layers if layer.temporalProperties().isActive()
    ]
    if len({range.begin().toString(ISO) for range in ranges}) < 2:
        return
    if not known.isInfinite():
        if chosen != known.begin().toString(ISO) + known.end().toString(ISO):
            return
        ranges.append(known)
    begin, end = min(range.begin() for range in ranges), max(range.end() for range in ranges)
    settings.setTemporalRange(QgsDateTimeRange(begin, end))
    project.writeEntry(SCOPE, TIME, begin.toString(ISO) + end.toString(ISO))


def _midnight(day: QDate) -> QDateTime:
    return QDateTime(day, QTime(0, 0), Qt.TimeSpec.UTC)
