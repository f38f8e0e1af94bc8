"""The table of a collection: one raster a row, two lines a cell."""

from __future__ import annotations

import os
from typing import Any

from qgis.PyQt.QtCore import QAbstractTableModel, QModelIndex, QObject, Qt, pyqtSignal
from qgis.PyQt.QtGui import QColor

from rsfm_qgis.collection import Entry, is_looked_at, is_usable
from rsfm_qgis.dates import day_of, hour_of, read_moment

RASTER, DATE, ROLE = range(3)
COLUMNS = 3
SEEN_NODATA = 0.005
CLOUDY = ("Sentinel-2", "Landsat")  # scenes that come with clouds, where no mask is given
SECOND_LINE = Qt.ItemDataRole.UserRole
PATH = Qt.ItemDataRole.UserRole + 1
WRONG = QColor("#d55e00")  # Okabe-Ito vermillion, readable on light and dark
ROLES = ("imagery", "mask", "labels", "other")


class CollectionModel(QAbstractTableModel):
    """Shows entries; what the user changes is asked for by a signal.

    Signals:
        wants_change: paths of rasters, what is to be said about them.
        refused: why a value was not taken.
    """

    wants_change = pyqtSignal(list, dict)
    refused = pyqtSignal(str)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._entries: list[Entry] = []
        self._rows: list[int] = []
        self._doubtful_only = False
        self._order: tuple[int, bool] = (-1, False)
        self._source_words = {
            "table": self.tr("yours"),
            "metadata": self.tr("metadata"),
            "name": self.tr("name"),
            "layer": self.tr("layer"),
        }

    def show_entries(self, entries: list[Entry], doubtful_only: bool = False) -> None:
        """Show entries, again after a change, or only those whose date is not certain."""
        self._entries, self._doubtful_only = entries, doubtful_only
        rows = self._choose_rows()
        if rows == self._rows:
            if rows:
                self.dataChanged.emit(self.index(0, 0), self.index(len(rows) - 1, COLUMNS - 1))
            return
        self.beginResetModel()
        self._rows = rows
        self.endResetModel()

    def entry(self, row: int) -> Entry:
        """Return the entry of a row."""
        return self._entries[self._rows[row]]

    def rowCount(self, parent: QModelIndex | None = None) -> int:
        return 0 if parent is not None and parent.isValid() else len(self._rows)

    def columnCount(self, _parent: QModelIndex | None = None) -> int:
        return COLUMNS

    def sort(self, column: int, order: Any = Qt.SortOrder.AscendingOrder) -> None:
        wanted = column, order == Qt.SortOrder.DescendingOrder
        if wanted != self._order:
            self._order = wanted
            self.show_entries(self._entries, self._doubtful_only)

    def headerData(self, section: int, orientation: Any, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        if orientation == Qt.Orientation.Horizontal and role == Qt.ItemDataRole.DisplayRole:
            return (self.tr("Raster"), self.tr("Date"), self.tr("Role"))[section]
        return None

    def flags(self, index: QModelIndex) -> Any:
        found = Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsSelectable | Qt.ItemFlag.ItemNeverHasChildren
        if index.column() == RASTER:
            return found | Qt.ItemFlag.ItemIsUserCheckable
        return found | Qt.ItemFlag.ItemIsEditable

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        entry, column = self.entry(index.row()), index.column()
        if role == Qt.ItemDataRole.DisplayRole:
            return (short_name(entry["path"]), shown_date(entry) or self.tr("no date"), self.role_word(entry))[column]
        if role == SECOND_LINE:
            return (self.facts(entry), self.date_mark(entry), "")[column]
        if role == Qt.ItemDataRole.EditRole:
            return _written(entry) if column == DATE else entry["role"]
        if role == Qt.ItemDataRole.CheckStateRole and column == RASTER:
            return Qt.CheckState.Checked if entry["used"] else Qt.CheckState.Unchecked
        if role == Qt.ItemDataRole.ToolTipRole:
            return self.help(entry, column)
        if role == Qt.ItemDataRole.AccessibleTextRole:
            return f"{self.data(index)}, {self.data(index, SECOND_LINE)}"
        if role == Qt.ItemDataRole.ForegroundRole and (entry["problem"] and is_looked_at(entry)) and column == RASTER:
            return WRONG
        return entry["path"] if role == PATH else None

    def setData(self, index: QModelIndex, value: Any, role: int = Qt.ItemDataRole.EditRole) -> bool:
        entry = self.entry(index.row())
        changes: dict[str, Any] | None = None
        if role == Qt.ItemDataRole.CheckStateRole:
            changes = {"used": Qt.CheckState(value) == Qt.CheckState.Checked}
        elif index.column() == ROLE:
            changes = {"role": value}
        elif str(value).strip() != _written(entry):
            changes = date_changes(str(value))
            if changes is None:
                self.refused.emit(
                    self.tr("\u201c{0}\u201d is no date. Write it as 2015-07-11, or 2015-07-11 10:23 in UTC.").format(
                        value
                    )
                )
        if changes is None or all(entry.get(name) == said for name, said in changes.items()):
            return False
        self.wants_change.emit([entry["path"]], changes)
        return True

    def facts(self, entry: Entry) -> str:
        """Say in one line what is known of a raster: what is wrong, or bands, pixel, nodata, clouds."""
        if not is_looked_at(entry):
            return str(self.tr("not looked at yet"))
        if entry["problem"]:
            return str(entry["problem"])
        bands = len(entry["bands"])
        parts = [self.tr("1 band") if bands == 1 else self.tr("{0} bands").format(bands), pixel_size(entry)]
        empty = 1 - (1 if entry.get("valid") is None else entry["valid"])
        if empty >= SEEN_NODATA:
            parts.append(self.tr("{0:.0f} % nodata").format(100 * empty))
        if entry.get("mask"):
            parts.append(self.tr("masked"))
        elif entry["role"] == "imagery" and entry.get("sensor", "").startswith(CLOUDY):
            parts.append(self.tr("clouds?"))
        return " \u00b7 ".join(part for part in parts if part)

    def date_mark(self, entry: Entry) -> str:
        """Say where the date comes from."""
        return self._source_words.get(entry["date_source"], "") if entry["date"] else ""

    def role_word(self, entry: Entry) -> str:
        """Name a role."""
        return self.role_words()[entry["role"]]

    def role_words(self) -> dict[str, str]:
        """Name all roles."""
        return dict(zip(ROLES, (self.tr("Imagery"), self.tr("Mask"), self.tr("Labels"), self.tr("Other"))))

    def help(self, entry: Entry, column: int) -> str:
        """Say all that is known of a cell."""
        if column == DATE:
            return str(
                (_written(entry) + " UTC\n" if entry["hour_known"] else "")
                + self.tr("Dates come from the raster's metadata, its name or its layer; what you type here stays.")
            )
        if column == ROLE:
            return str(self.tr("Imagery is learned from; masks, labels and others are not."))
        lines = [entry["path"], self.facts(entry), entry["note"]]
        if is_looked_at(entry) and not entry["problem"]:
            lines.append(self.tr("{0} rows, {1} columns, {2}").format(entry["height"], entry["width"], entry["dtype"]))
            lines.append(" ".join([entry.get("sensor", ""), *(band["name"] for band in entry["bands"])]).strip())
        if entry.get("mask"):
            lines.append(self.tr("Left out: what {0} marks").format(short_name(entry["mask"])))
        return "\n".join(line for line in lines if line)

    def _choose_rows(self) -> list[int]:
        rows = range(len(self._entries))
        chosen = [row for row in rows if not self._doubtful_only or is_doubtful(self._entries[row])]
        column, reverse = self._order
        if column in SORTED_BY:
            keys = [SORTED_BY[column](entry) for entry in self._entries]
            chosen.sort(key=keys.__getitem__, reverse=reverse)
        return chosen


def is_doubtful(entry: Entry) -> bool:
    """Tell whether the date of imagery should be looked at before it is used."""
    return is_usable(entry) and (entry["date_source"] in {"name", "none"} or not entry["month_known"])


def date_changes(text: str) -> dict[str, Any] | None:
    """Return what a date typed by the user changes; an empty one takes the date back; None where it is no date."""
    if not text.strip():
        return {"date": None, "date_source": "none", "hour_known": False, "month_known": True}
    moment = read_moment(text)
    if moment is None:
        return None
    return {"date": moment.date, "date_source": "table", "hour_known": moment.hour_known, "month_known": True}


def shown_date(entry: Entry) -> str:
    """Write as much of a date as is known; empty where there is none."""
    return day_of(entry["date"])[: 10 if entry["month_known"] else 4]


def short_name(path: str) -> str:
    """Return the name of a raster's file, without what every raster has."""
    return os.path.splitext(os.path.basename(path))[0] or path


def pixel_size(entry: Entry) -> str:
    """Write a pixel size: 10 m, 0.6 m; empty where it is not known."""
    gsd = entry.get("gsd") or 0
    return f"{gsd:.3g} m" if 0 < gsd < 1000 else (f"{gsd / 1000:.3g} km" if gsd else "")


def _written(entry: Entry) -> str:
    """Write a date as it is typed; empty where only the year is known."""
    if not entry["month_known"]:
        return ""
    return " ".join(part for part in (day_of(entry["date"]), hour_of(entry["date"], entry["hour_known"])) if part)


def _by_name(entry: Entry) -> str:
    return str(entry["path"]).replace("\\", "/").rpartition("/")[2].lower()


def _by_date(entry: Entry) -> str:
    return f"{entry['date'] or ''}\0{_by_name(entry)}"


def _by_role(entry: Entry) -> str:
    return f"{entry['role']}\0{_by_name(entry)}"


SORTED_BY = {RASTER: _by_name, DATE: _by_date, ROLE: _by_role}  # one string each: 10,000 are sorted in milliseconds
