"""Offers to fetch the visible area of an online map into a local GeoTIFF; nothing is asked for before the button."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from qgis.core import (
    QgsApplication,
    QgsCoordinateTransform,
    QgsCsException,
    QgsDistanceArea,
    QgsPointXY,
    QgsProviderRegistry,
    QgsRasterFileWriter,
    QgsRasterFileWriterTask,
    QgsRasterLayer,
    QgsRasterPipe,
    QgsRectangle,
    QgsUnitTypes,
)
from qgis.PyQt.QtCore import pyqtSignal
from qgis.PyQt.QtWidgets import QFormLayout, QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from rsfm_qgis import paths
from rsfm_qgis.collection_list import FORBIDDEN
from rsfm_qgis.gui.editor import Workspace
from rsfm_qgis.gui.editors.number import PlainDoubleSpinBox
from rsfm_qgis.gui.hint import Hint

LARGEST_SIDE, MOST_PIXELS = 16384, 100_000_000
BYTES_A_PIXEL = 4
PROBE_PIXELS, PROBES_A_SIDE = 16, 3


class FetchPanel(QWidget):
    """The offer for one layer at a time; other layers wait.

    Signals:
        fetched: path of the file, once it is complete.
        failed: why there is no file.
    """

    fetched = pyqtSignal(str)
    failed = pyqtSignal(str)

    def __init__(self, workspace: Workspace) -> None:
        super().__init__()
        self._workspace = workspace
        self._waiting: list[QgsRasterLayer] = []
        self._task: Any = None
        self._partial, self._path = Path(), Path()
        self.text, self.size = Hint(), Hint()
        self.pixel = PlainDoubleSpinBox()
        self.pixel.setDecimals(8)
        self.pixel.setRange(1e-8, 1e6)
        self.pixel.setShowClearButton(False)
        self.fetch_button, self.close_button = QPushButton(self.tr("Fetch")), QPushButton(self.tr("Not Now"))
        self._lay_out()
        self.pixel.valueChanged.connect(self._show_size)
        self.fetch_button.clicked.connect(self._fetch)
        self.close_button.clicked.connect(self._close)
        workspace.canvas.extentsChanged.connect(self._show_size)
        self.hide()

    def offer(self, layers: list[QgsRasterLayer]) -> None:
        """Offer to fetch the visible area of these layers, one after the other."""
        self._waiting += [layer.clone() for layer in layers]
        if self.isHidden():
            self._show_next()

    def grid(self) -> tuple[QgsRectangle, int, int]:
        """Return the area in the layer's CRS, in whole pixels from its north-west corner, and its width and height."""
        area, pixel = self._area(), self.pixel.value()
        width, height = max(1, round(area.width() / pixel)), max(1, round(area.height() / pixel))
        west, north = area.xMinimum(), area.yMaximum()
        return QgsRectangle(west, north - height * pixel, west + width * pixel, north), width, height

    def _show_next(self) -> None:
        self.setVisible(bool(self._waiting))
        if not self._waiting:
            return
        layer = self._waiting[0]
        rights = layer.attribution() or "; ".join(layer.metadata().rights())
        self.text.setText(
            self.tr("\u201c{0}\u201d is an online map. The visible area can be fetched into a local GeoTIFF.").format(
                layer.name()
            )
            + (f" {rights}" if rights else "")
        )
        self.pixel.setSuffix(f" {QgsUnitTypes.toAbbreviatedString(layer.crs().mapUnits())}")
        area = self._area()
        self.pixel.setValue(float(f"{area.width() / max(1, self._workspace.canvas.width()):.3g}"))
        self._show_size()

    def _area(self) -> QgsRectangle:
        """Return what the canvas shows of the layer, in the layer's CRS; empty where that is nothing."""
        layer, canvas = self._waiting[0], self._workspace.canvas
        transform = QgsCoordinateTransform(
            canvas.mapSettings().destinationCrs(), layer.crs(), self._workspace.project.transformContext()
        )
        try:
            area = transform.transformBoundingBox(canvas.extent())
        except QgsCsException:
            return QgsRectangle()
        return area.intersect(layer.extent()) if not layer.extent().isEmpty() else area

    def _show_size(self, _value: Any = None) -> None:
        if not self._waiting or self._task is not None:
            return
        problem = self._problem()
        self.fetch_button.setEnabled(not problem)
        if problem:
            self.size.setText(problem)
            return
        area, width, height = self.grid()
        megabytes = width * height * BYTES_A_PIXEL / 1e6
        text = self.tr("{0} \u00d7 {1} pixels of {2:.3g} m on the ground, at most {3:.3g} MB")
        self.size.setText(text.format(width, height, self._ground_metres(area, width), megabytes))

    def _problem(self) -> str:
        if self._area().isEmpty():
            return str(self.tr("The map shows nothing of this layer: zoom to it."))
        _, width, height = self.grid()
        if max(width, height) > LARGEST_SIDE or width * height > MOST_PIXELS:
            text = self.tr(
                "{0} \u00d7 {1} pixels are too many (at most {2:.0f} million): zoom in, or take larger pixels."
            )
            return str(text.format(width, height, MOST_PIXELS / 1e6))
        return ""

    def _ground_metres(self, area: QgsRectangle, width: int) -> float:
        """Return the width of the pixel in the middle, which in a web map is not what its CRS says."""
        measure = QgsDistanceArea()
        measure.setSourceCrs(self._waiting[0].crs(), self._workspace.project.transformContext())
        measure.setEllipsoid("WGS84")
        middle, step = area.center(), area.width() / width
        length = measure.measureLine(middle, QgsPointXY(middle.x() + step, middle.y()))
        return float(measure.convertLengthMeasurement(length, QgsUnitTypes.DistanceUnit.DistanceMeters))

    def _fetch(self) -> None:
        layer = self._waiting[0]
        area, width, height = self.grid()
        folder = paths.collections_folder(self._workspace.project).parent / "fetched"
        self._path = _free_path(folder, FORBIDDEN.sub("-", layer.name()) or "map")
        self._partial = self._path.with_name(f"{self._path.stem}.partial.tif")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            self.failed.emit(self.tr("\u201c{0}\u201d cannot be written ({1}).").format(folder, error.strerror))
            return
        pipe = QgsRasterPipe()
        pipe.set(layer.dataProvider().clone())
        writer = QgsRasterFileWriter(str(self._partial))
        writer.setOutputFormat("GTiff")
        writer.setCreateOptions(["TILED=YES", "COMPRESS=DEFLATE", "BIGTIFF=IF_SAFER"])
        context = self._workspace.project.transformContext()
        self._task = QgsRasterFileWriterTask(writer, pipe, width, height, area, layer.crs(), context)
        self._task.setDescription(self.tr("Fetch {0}").format(layer.name()))
        self._task.writeComplete.connect(self._end)
        self._task.errorOccurred.connect(self._fail)
        self._task.progressChanged.connect(self._show_progress)
        self._show_fetching(True)
        QgsApplication.taskManager().addTask(self._task)

    def _show_fetching(self, on: bool) -> None:
        self.fetch_button.setEnabled(not on)
        self.pixel.setEnabled(not on)
        self.close_button.setText(self.tr("Stop") if on else self.tr("Not Now"))
        if on:
            self.size.setText(self.tr("Fetching\u2026"))

    def _show_progress(self, percent: float) -> None:
        self.size.setText(self.tr("Fetching: {0:.0f} %").format(percent))

    def _close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            return
        self._waiting = self._waiting[1:]
        self._show_next()

    def _end(self, _path: str) -> None:
        empty = _empty_share(str(self._partial))
        if empty == 1:
            self._fail()
            return
        os.replace(self._partial, self._path)
        self._forget()
        self.fetched.emit(str(self._path))
        if empty:
            self.failed.emit(
                self.tr("Parts of \u201c{0}\u201d did not come; they are left out.").format(self._path.stem)
            )

    def _fail(self, _error: Any = None, _message: Any = None) -> None:
        name, was_stopped = self._waiting[0].name(), self._task is not None and self._task.isCanceled()
        if self._partial.is_file():
            os.remove(self._partial)
        self._forget()
        if not was_stopped:
            text = self.tr(
                "Nothing came from \u201c{0}\u201d. See whether the layer is drawn on the map, then fetch again."
            )
            self.failed.emit(text.format(name))

    def _forget(self) -> None:
        self._task = None
        self._waiting = self._waiting[1:]
        self._show_fetching(False)
        self._show_next()

    def _lay_out(self) -> None:
        row = QFormLayout()
        row.addRow(self.tr("Pixel size"), self.pixel)
        buttons = QHBoxLayout()
        buttons.addWidget(self.size, 1)
        buttons.addWidget(self.close_button)
        buttons.addWidget(self.fetch_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addWidget(self.text)
        layout.addLayout(row)
        layout.addLayout(buttons)


def _empty_share(path: str) -> float:
    """Look at a few places of a fetched file, and tell the share of those that are wholly transparent."""
    provider = QgsProviderRegistry.instance().createProvider("gdal", path)
    if provider is None or not provider.isValid():
        return 1.0
    if provider.bandCount() != 4:
        return 0.0
    area, found = provider.extent(), []
    step_x, step_y = area.width() / provider.xSize(), area.height() / provider.ySize()
    for place in range(PROBES_A_SIDE**2):
        row, column = divmod(place, PROBES_A_SIDE)
        x = area.xMinimum() + (column + 0.5) / PROBES_A_SIDE * area.width()
        y = area.yMinimum() + (row + 0.5) / PROBES_A_SIDE * area.height()
        half = PROBE_PIXELS / 2
        window = QgsRectangle(x - half * step_x, y - half * step_y, x + half * step_x, y + half * step_y)
        alpha = provider.block(4, window.intersect(area), PROBE_PIXELS, PROBE_PIXELS)
        found.append(not any(bytes(alpha.data())))  # the data live as long as the block
    return sum(found) / len(found)


def _free_path(folder: Path, name: str) -> Path:
    numbers = range(2, 10**6)
    candidates = (folder / f"{name}{end}.tif" for end in ("", *(f" {number}" for number in numbers)))
    return next(path for path in candidates if not path.exists())
