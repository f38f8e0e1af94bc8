"""The button and the entry of the layer tree's menu that compare two selected rasters at once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Callable

from qgis.core import QgsRasterLayer
from qgis.PyQt.QtCore import QObject, Qt

from rsfm_qgis.dates import read_moment
from rsfm_qgis.gui.layer_action import LayerAction

DAY = re.compile(r"(?<!\d)(?:19|20)\d{2}([-._]?)(?:0[1-9]|1[0-2])\1(?:0[1-9]|[12]\d|3[01])(?!\d)")
YEAR = re.compile(r"(?<!\d)(?:19|20)\d{2}(?!\d)")
ISO = Qt.DateFormat.ISODate


class PairAction(QObject):
    """One action, in the Plugins toolbar and in the menu of raster layers; it can be used while two are selected."""

    def __init__(self, iface: Any, compare: Callable[[str, str], None], parent: QObject | None = None) -> None:
        """Add the action.

        Args:
            compare: starts the comparison of two sources, the earlier first.
        """
        super().__init__(parent)
        self._compare, self._tree = compare, iface.layerTreeView()
        self._placed = LayerAction(iface, "rsfm_compare_selected", "change", self.tr("Detect Change"), self.look)
        self.action = self._placed.action
        self.action.triggered.connect(self._run)
        self.look()

    def remove(self) -> None:
        """Take the action away."""
        self._placed.remove()

    def look(self, *_: Any) -> None:
        """Say whether the action can be used, and what it would do."""
        found = self.pair()
        self.action.setEnabled(len(found) == 2)
        if len(found) == 2:
            self.action.setToolTip(
                self.tr("Detect change from \u201c{0}\u201d to \u201c{1}\u201d").format(*map(_name, found))
            )
        else:
            self.action.setToolTip(self.tr("Select two raster layers to detect change between them"))

    def pair(self) -> list[QgsRasterLayer]:
        """Return the selected rasters if they are two, the earlier first."""
        chosen = self._tree.selectedLayersRecursive()
        found = [layer for layer in chosen if isinstance(layer, QgsRasterLayer) and layer.providerType() == "gdal"]
        return in_time([layer for layer in found if layer.isValid()]) if len(found) == len(chosen) == 2 else []

    def _run(self, _checked: bool = False) -> None:
        found = self.pair()
        if len(found) == 2:
            self._compare(*(layer.source() for layer in found))


def in_time(layers: list[QgsRasterLayer]) -> list[QgsRasterLayer]:
    """Sort layers by their dates, or by their names where one has none."""
    dates = [date_of(layer) for layer in layers]
    named = [_name(layer) for layer in layers]
    keys = list(zip(dates, named)) if all(dates) else [("", name) for name in named]
    return [layers[place] for place in sorted(range(len(layers)), key=lambda place: keys[place])]


def date_of(layer: QgsRasterLayer) -> str:
    """Find when a raster was taken: its time in QGIS, or a date or a year in its name or its file's; else nothing."""
    times = layer.temporalProperties()
    if times.isActive() and times.fixedTemporalRange().begin().isValid():
        return str(times.fixedTemporalRange().begin().toString(ISO))
    for text in (layer.name(), Path(layer.source().partition("|")[0]).stem):
        day = DAY.search(text)
        moment = read_moment(day.group().replace("_", "-")) if day else None
        if moment is not None:
            return moment.date
        year = YEAR.search(text)
        if year:
            return year.group()
    return ""


def _name(layer: QgsRasterLayer) -> str:
    return str(layer.name())
