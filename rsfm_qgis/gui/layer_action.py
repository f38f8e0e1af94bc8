"""An action on raster layers: a button of the Plugins toolbar and an entry of the layer tree's menu."""

from __future__ import annotations

from typing import Any, Callable

from qgis.PyQt.QtGui import QIcon
from qgis.PyQt.QtWidgets import QAction

from rsfm_qgis import paths
from rsfm_qgis.compatibility import RASTER_LAYER


class LayerAction:
    """Puts an action into both places, and takes it away again; tells when other layers are selected."""

    def __init__(self, iface: Any, name: str, icon: str, text: str, look: Callable[..., None]) -> None:
        """Add the action.

        Args:
            name: by which scripts find it.
            look: is called whenever the selection in the layer tree changes.
        """
        self._iface, self._look = iface, look
        self.action = QAction(QIcon(paths.icon(icon)), text)
        self.action.setObjectName(name)
        iface.addToolBarIcon(self.action)
        iface.addCustomActionForLayerType(self.action, "", RASTER_LAYER, True)
        self._selection = iface.layerTreeView().selectionModel()
        self._selection.selectionChanged.connect(look)

    def remove(self) -> None:
        """Take the action away."""
        self._selection.selectionChanged.disconnect(self._look)
        self._iface.removeToolBarIcon(self.action)
        self._iface.removeCustomActionForLayerType(self.action)
        self.action.deleteLater()
