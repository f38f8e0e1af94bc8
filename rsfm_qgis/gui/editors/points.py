"""Places on the map: clicked, or written as "x,y; x,y"."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsCoordinateTransform, QgsCsException, QgsPointXY
from qgis.gui import QgsMapToolEmitPoint, QgsVertexMarker
from qgis.PyQt.QtGui import QColor, QHideEvent
from qgis.PyQt.QtWidgets import QHBoxLayout, QLineEdit, QToolButton, QWidget

from rsfm_qgis.gui.editor import Editor, Workspace
from rsfm_qgis.schema import Field

MARKER, MARKER_SIZE, MARKER_WIDTH = QColor("#e6007e"), 12, 3


class PointsEditor(Editor):
    """Its value is "x,y; x,y" in the CRS of the form's first raster, or None.

    While the button is down, a click on the map adds a place, and those there are shown.
    """

    def __init__(self, field: Field, workspace: Workspace, parent: QWidget | None = None) -> None:
        super().__init__(field, workspace, parent)
        self.line = QLineEdit(str(field.default or ""))
        self.line.setClearButtonEnabled(True)
        self.line.setPlaceholderText("x,y; x,y")
        self.button = QToolButton()
        self.button.setText(self.tr("Click"))
        self.button.setToolTip(self.tr("Click places on the map; press again when you are done"))
        self.button.setCheckable(True)
        self.button.setVisible(workspace.canvas is not None)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.line)
        layout.addWidget(self.button)
        self._raster: Any = None
        self._tool: Any = None
        self._markers: list[QgsVertexMarker] = []
        self.line.textChanged.connect(self._tell)
        self.button.toggled.connect(self._pick)

    def value(self) -> Any:
        return self.line.text().strip() or None

    def set_value(self, value: Any) -> None:
        self.line.setText(str(value or ""))

    def connect_to(self, siblings: dict[str, Any]) -> None:
        self._raster = next((each for each in siblings.values() if each.field.kind == "raster"), None)

    def hideEvent(self, event: QHideEvent) -> None:
        self.button.setChecked(False)
        super().hideEvent(event)

    def add(self, point: QgsPointXY, _button: Any = None) -> None:
        """Add a place, given in the CRS of the map."""
        try:
            place = self._transform().transform(point)
        except QgsCsException:
            return  # the raster's CRS has no such place
        written = f"{place.x():.12g},{place.y():.12g}"
        self.line.setText("; ".join(part for part in (self.line.text().strip().rstrip(";"), written) if part))

    def _pick(self, on: bool) -> None:
        """Give the map the tool that adds places, or take it back."""
        canvas = self.workspace.canvas
        if on:
            self._tool = QgsMapToolEmitPoint(canvas)
            self._tool.canvasClicked.connect(self.add)
            canvas.setMapTool(self._tool)
            self._tool.deactivated.connect(self._release)
        elif self._tool is not None:
            tool, self._tool = self._tool, None
            tool.deactivated.disconnect(self._release)
            canvas.unsetMapTool(tool)
        self._show_markers()

    def _release(self) -> None:
        """Another tool was taken."""
        self.button.setChecked(False)

    def _tell(self, _text: str) -> None:
        self._show_markers()
        self.changed.emit()

    def _show_markers(self) -> None:
        canvas = self.workspace.canvas
        while self._markers:
            canvas.scene().removeItem(self._markers.pop())
        if self._tool is None:
            return
        to_map = self._transform(backwards=True)
        for x, y in read_places(self.line.text()):
            try:
                centre = to_map.transform(QgsPointXY(x, y))
            except QgsCsException:
                continue
            marker = QgsVertexMarker(canvas)
            marker.setCenter(centre)
            marker.setColor(MARKER)
            marker.setIconSize(MARKER_SIZE)
            marker.setPenWidth(MARKER_WIDTH)
            self._markers.append(marker)

    def _transform(self, backwards: bool = False) -> QgsCoordinateTransform:
        """Return what brings places of the map to the CRS of the raster, or back."""
        own = self.workspace.canvas.mapSettings().destinationCrs()
        crs = self._raster.crs() if self._raster is not None else own
        ways = (own, crs if crs.isValid() else own)
        return QgsCoordinateTransform(*(reversed(ways) if backwards else ways), self.workspace.project)


def read_places(text: str) -> list[tuple[float, float]]:
    """Read "x,y; x,y"; what is half written is passed over."""
    found = []
    for pair in text.split(";"):
        parts = pair.split(",")
        try:
            x, y = (float(part) for part in parts)
        except ValueError:
            continue
        found.append((x, y))
    return found
