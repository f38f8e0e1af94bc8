"""The button and the entry of the layer tree's menu that compare two rasters by a line that can be dragged."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Callable

from qgis.core import QgsProject, QgsRasterLayer
from qgis.PyQt.QtCore import QObject, QTimer

from rsfm_qgis.gui.layer_action import LayerAction
from rsfm_qgis.gui.layer_choice import same_file
from rsfm_qgis.gui.swipe_tool import SwipeTool
from rsfm_qgis.layers import RUN_PROPERTY
from rsfm_qgis.records import read_config


class SwipeAction(QObject):
    """One action that stays pressed while two rasters are compared on the canvas.

    These are the two that are selected, or those that a selected run has compared.
    """

    def __init__(self, iface: Any, selected: Callable[[], list[QgsRasterLayer]], parent: QObject | None = None) -> None:
        """Add the action.

        Args:
            selected: returns the two rasters that are selected, the earlier first, or none.
        """
        super().__init__(parent)
        self._iface, self._selected = iface, selected
        self._tree = iface.layerTreeView()
        self.tool = SwipeTool(iface.mapCanvas())
        self._placed = LayerAction(iface, "rsfm_swipe", "swipe", self.tr("Compare by Swiping"), self.look)
        self.action = self._placed.action
        self.action.setCheckable(True)
        self.action.triggered.connect(self._run)
        self.tool.ended.connect(self._show_ended)
        self.look()

    def remove(self) -> None:
        """End a comparison, and take the action away."""
        self.tool.ended.disconnect(self._show_ended)
        self.tool.close()
        self.tool.deleteLater()
        self._placed.remove()

    def look(self, *_: Any) -> None:
        """Say whether the action can be used, and what it would do."""
        found = self.pair()
        self.action.setEnabled(len(found) == 2 or self.action.isChecked())
        if self.action.isChecked():
            self.action.setToolTip(self.tr("End the comparison (Escape)"))
        elif len(found) == 2:
            names = (str(layer.name()) for layer in found)
            self.action.setToolTip(
                self.tr("Swipe between \u201c{0}\u201d, left of a line, and \u201c{1}\u201d").format(*names)
            )
        else:
            self.action.setToolTip(
                self.tr("Select two raster layers, or a layer of a run that has compared two, to swipe between them")
            )

    def compare(self, layers: Sequence[QgsRasterLayer]) -> None:
        """Compare two layers, whatever is selected, the earlier first; none ends the comparison."""
        if len(layers) == 2:
            self.tool.compare(*layers)
        elif self.tool.item is not None:
            self.tool.finish()
        self.action.setChecked(self.tool.item is not None)
        self.look()

    def pair(self) -> list[QgsRasterLayer]:
        """Return the two rasters that would be compared, the earlier first; none where it is not clear which."""
        return self._selected() or self._of_run()

    def _of_run(self) -> list[QgsRasterLayer]:
        """Return the rasters that the run of the selected layers has compared, if they are on the map."""
        chosen = {layer.id() for layer in self._tree.selectedLayersRecursive()}
        project = QgsProject.instance()
        groups = [group for group in project.layerTreeRoot().findGroups(True) if group.customProperty(RUN_PROPERTY)]
        group = next((group for group in groups if chosen and chosen <= set(group.findLayerIds())), None)
        if group is None:
            return []
        config = read_config(Path(group.customProperty(RUN_PROPERTY)))
        return layers_of([config.get("before"), config.get("after")])

    def _run(self, is_on: bool) -> None:
        self.compare(self.pair() if is_on else [])

    def _show_ended(self) -> None:
        self.action.setChecked(False)
        self.look()
        QTimer.singleShot(0, self._take_up)

    def _take_up(self) -> None:
        """Give the map a tool again if the comparison left it without one."""
        if self._iface.mapCanvas().mapTool() is None:
            self._iface.actionPan().trigger()


def layers_of(sources: Sequence[Any]) -> list[QgsRasterLayer]:
    """Return the layers of the project that show two rasters, in order; none where one of them is no layer."""
    layers = [layer for layer in QgsProject.instance().mapLayers().values() if isinstance(layer, QgsRasterLayer)]
    found = [
        next((layer for layer in layers if layer.isValid() and same_file(layer.source(), str(source))), None)
        for source in sources
        if source
    ]
    rasters = [layer for layer in found if layer is not None]
    return rasters if len(rasters) == 2 else []
