"""Corrects the names and wavelengths of bands, for all rasters that have the same ones."""

from __future__ import annotations

from typing import Any

from qgis.PyQt.QtCore import Qt, pyqtSignal
from qgis.PyQt.QtWidgets import (
    QComboBox,
    QHBoxLayout,
    QHeaderView,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from rsfm_qgis.collection import Entry, is_looked_at
from rsfm_qgis.gui.editor import shrinkable
from rsfm_qgis.gui.hint import Hint

NAME, WAVELENGTH = range(2)
ROWS_SHOWN = 6
Kind = tuple[tuple[int, str, float], ...]


class BandsPanel(QWidget):
    """Shows the bands of one kind of raster.

    Signals:
        wants_change: paths of rasters, what is to be said about them.
        closed: it is no longer wanted.
    """

    wants_change = pyqtSignal(list, dict)
    closed = pyqtSignal()

    def __init__(self) -> None:
        super().__init__()
        self._paths: dict[Kind, list[str]] = {}
        self.kinds = shrinkable(QComboBox())
        self.table = QTableWidget(0, 2)
        self.table.setHorizontalHeaderLabels([self.tr("Name"), self.tr("Centre, nm")])
        self.table.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
        self.table.setMinimumHeight(self.fontMetrics().height() * 2 * ROWS_SHOWN)
        self.table.setTabKeyNavigation(False)
        self.said = Hint(self.tr("Bands of the same name are taken for the same, in whatever order a raster has them."))
        self.apply_button, self.close_button = QPushButton(self.tr("Apply")), QPushButton(self.tr("Close"))
        self._lay_out()
        self.kinds.currentIndexChanged.connect(self._show_kind)
        self.apply_button.clicked.connect(self._apply)
        self.close_button.clicked.connect(self.closed)

    def show_entries(self, entries: list[Entry]) -> None:
        """Show the kinds of rasters, the most frequent first."""
        chosen, before = self.kinds.currentIndex(), self._paths
        self._paths = {}
        for entry in entries:
            if is_looked_at(entry) and entry.get("bands") and entry["role"] == "imagery":
                self._paths.setdefault(_kind(entry), []).append(entry["path"])
        if self._paths == before:
            return  # what is being typed stays
        self.kinds.blockSignals(True)
        self.kinds.clear()
        for kind, paths in sorted(self._paths.items(), key=_frequency):
            self.kinds.addItem(self.tr("{0} bands \u00b7 {1} rasters").format(len(kind), len(paths)), kind)
        self.kinds.setCurrentIndex(min(max(chosen, 0), self.kinds.count() - 1))
        self.kinds.blockSignals(False)
        self.kinds.setVisible(self.kinds.count() > 1)
        self._show_kind()

    def _show_kind(self, _index: int = 0) -> None:
        kind: Kind = self._kind() or ()
        self.table.setRowCount(len(kind))
        self.table.setVerticalHeaderLabels([str(number) for number, _, _ in kind])
        for row, (_number, name, wavelength) in enumerate(kind):
            self.table.setItem(row, NAME, QTableWidgetItem(name))
            self.table.setItem(row, WAVELENGTH, QTableWidgetItem(f"{wavelength:g}" if wavelength else ""))

    def _apply(self) -> None:
        kind = self._kind()
        if kind is None:
            return
        bands: list[dict[str, Any]] = []
        for row, (number, _, _) in enumerate(kind):
            name, text = self.table.item(row, NAME).text().strip(), self.table.item(row, WAVELENGTH).text().strip()
            wavelength = _number(text)
            problem = self._problem(name, [band["name"] for band in bands], text, wavelength)
            if problem:
                self.said.setText(self.tr("Band {0}: {1}").format(number, problem))
                self.table.setCurrentCell(row, NAME)
                return
            bands.append({"number": number, "name": name, "wavelength_nm": wavelength})
        self.said.setText(self.tr("Said of {0} rasters.").format(len(self._paths[kind])))
        self.wants_change.emit(self._paths[kind], {"bands": bands})

    def _problem(self, name: str, taken: list[str], text: str, wavelength: float | None) -> str:
        if not name:
            return str(self.tr("give it a name."))
        if name in taken:
            return str(self.tr("another band has the name \u201c{0}\u201d.").format(name))
        if text and (wavelength is None or not 100 <= wavelength <= 1e9):
            return str(self.tr("\u201c{0}\u201d is no wavelength in nanometres, such as 842.").format(text))
        return ""

    def _kind(self) -> Kind | None:
        index = self.kinds.currentIndex()
        return sorted(self._paths.items(), key=_frequency)[index][0] if index >= 0 else None

    def _lay_out(self) -> None:
        buttons = QHBoxLayout()
        buttons.addWidget(self.said, 1)
        buttons.addWidget(self.close_button, 0, Qt.AlignmentFlag.AlignTop)
        buttons.addWidget(self.apply_button, 0, Qt.AlignmentFlag.AlignTop)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addWidget(self.kinds)
        layout.addWidget(self.table)
        layout.addLayout(buttons)


def _kind(entry: Entry) -> Kind:
    return tuple((band["number"], band["name"], band.get("wavelength_nm") or 0.0) for band in entry["bands"])


def _frequency(pair: tuple[Kind, list[str]]) -> tuple[int, Kind]:
    return -len(pair[1]), pair[0]


def _number(text: str) -> float | None:
    try:
        return float(text.replace(",", "."))
    except ValueError:
        return None
