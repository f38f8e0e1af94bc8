"""When the rasters of a collection were taken."""

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np

from rsfm.errors import UserError
from rsfm.raster.collection import Entry
from rsfm.raster.reader import short_name

FIRST_YEAR = 2002
SAME_PASS_DAYS = 1 / 24
"""Rasters taken within this time are of one pass, not of two dates."""
UNKNOWN_TIME = (2020 - FIRST_YEAR, 5, 10)
"""Year, month and hour of a raster whose date is not known."""


class Timeline:
    """The moments of rasters, and which of them are dates apart.

    Attributes:
        code_E3: year - 2002, month - 1 and hour in UTC of each raster.
        known_E: False where UNKNOWN_TIME stands in.
    """

    def __init__(self, entries: Sequence[Entry], min_gap_days: float = 0, field: str = "rasters") -> None:
        moments = [_parse(entry, field) for entry in entries]
        self.known_E = np.array([moment is not None for moment in moments])
        self.code_E3 = np.array(
            [UNKNOWN_TIME if m is None else (m.year - FIRST_YEAR, m.month - 1, m.hour) for m in moments]
        )
        self._day_E = np.array([np.nan if m is None else m.timestamp() / 86400 for m in moments])
        self._gap = max(float(min_gap_days), SAME_PASS_DAYS)

    def apart(self, index: int, others: np.ndarray) -> np.ndarray:
        """Tell which of other rasters show another date than one; an unknown date counts as another."""
        days = np.abs(self._day_E[others] - self._day_E[index])
        return np.asarray((others != index) & (np.isnan(days) | (days >= self._gap)))

    def same_month(self, index: int, others: np.ndarray) -> np.ndarray:
        """Tell which of other rasters were taken in the month of one, of any year."""
        return np.asarray(self.code_E3[others, 1] == self.code_E3[index, 1])


def _parse(entry: Entry, field: str) -> datetime | None:
    if entry.date is None:
        return None
    try:
        moment = datetime.fromisoformat(entry.date)
    except ValueError as error:
        raise UserError(
            f"The date '{entry.date}' of '{short_name(entry.path)}' is not like 2020-07-31T10:05:00. Correct it on the "
            "page Imagery.",
            field,
        ) from error
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return moment if entry.hour_known else moment.replace(hour=10, minute=0, second=0, microsecond=0)
