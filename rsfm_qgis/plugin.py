"""The plugin: what initGui adds, unload removes."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any, Callable

from qgis.core import QgsApplication, QgsProject
from qgis.PyQt.QtCore import QObject, Qt, QTimer
from qgis.PyQt.QtGui import QIcon
from qgis.PyQt.QtWidgets import QAction

from rsfm_qgis import paths, settings
from rsfm_qgis.client import BackendClient
from rsfm_qgis.collection_list import CollectionList
from rsfm_qgis.gui.dock import IMAGERY, Dock
from rsfm_qgis.gui.editor import Workspace
from rsfm_qgis.gui.options_page import PAGE, OptionsFactory
from rsfm_qgis.gui.pair_action import PairAction
from rsfm_qgis.gui.share_legend import ShareLegend
from rsfm_qgis.gui.swipe_action import SwipeAction
from rsfm_qgis.runs import RunList
from rsfm_qgis.schema import jobs
from rsfm_qgis.toolbox.provider import Provider

MENU = "RSFM"
MEMBERS = ("rsfm_qgis.gui.cards.", "rsfm_qgis.gui.editors.", "rsfm_qgis.layers.")


class Plugin(QObject):
    """Owns everything that lives as long as the plugin is on. `iface` is None in qgis_process."""

    def __init__(self, iface: Any) -> None:
        super().__init__()
        self._iface = iface
        self.provider: Provider | None = None
        self.client: BackendClient | None = None
        self.runs: RunList | None = None
        self.collections: CollectionList | None = None
        self.dock: Dock | None = None
        self._options: OptionsFactory | None = None
        self._pair: PairAction | None = None
        self._swipe: SwipeAction | None = None
        self._shares: ShareLegend | None = None
        self._actions: list[QAction] = []
        self._later = QTimer(self)
        self._later.setSingleShot(True)
        self._later.timeout.connect(self._prepare)
        self._waiting: list[Callable[[], object]] = []

    def initProcessing(self) -> None:
        """Add the toolbox's algorithms; all that qgis_process asks for."""
        self.provider = Provider()
        QgsApplication.processingRegistry().addProvider(self.provider)

    def initGui(self) -> None:
        """Add the dock and the options page; the actions and the algorithms follow in turns of their own."""
        self._waiting = [self._add_actions, self._add_tools]
        self._waiting += [job.prepare for job in jobs().values()]
        self._waiting += [self.initProcessing]
        self._later.start(0)
        self.client = BackendClient(self)
        self.runs = RunList(self.client, QgsProject.instance(), self)
        self.collections = CollectionList(QgsProject.instance(), self)
        workspace = Workspace(
            QgsProject.instance(),
            self._iface.mapCanvas(),
            self.client,
            self.runs,
            self.collections,
            self._iface.layerTreeView(),
        )
        self.dock = Dock(workspace, self._iface.messageBar(), self._open_options)
        self._iface.addDockWidget(Qt.DockWidgetArea.RightDockWidgetArea, self.dock)
        self.dock.setUserVisible(settings.read(settings.DOCK_SHOWN) != "no")
        self.dock.closed.connect(self._remember_closed)
        self.dock.opened.connect(self._remember_opened)
        self._options = OptionsFactory(self.client)
        self._iface.registerOptionsWidgetFactory(self._options)
        self._shares = ShareLegend(QgsProject.instance(), self._iface.layerTreeView(), self)

    def unload(self) -> None:
        """Remove all of it; runs go on."""
        self._later.stop()
        if self._swipe is not None:
            self._swipe.remove()
            self._swipe.deleteLater()
            self._swipe = None
        if self._pair is not None:
            self._pair.remove()
            self._pair.deleteLater()
            self._pair = None
        if self._shares is not None:
            self._shares.remove()
            self._shares.deleteLater()
            self._shares = None
        for action in self._actions:
            self._iface.removePluginRasterMenu(MENU, action)
            action.deleteLater()
        self._actions = []
        if self._options is not None:
            self._iface.unregisterOptionsWidgetFactory(self._options)
            self._options = None
        if self.dock is not None:
            self.dock.imagery.keeper.finish()
            if self.dock.labelling is not None:
                self.dock.labelling.live.close()
            self.dock.closed.disconnect(self._remember_closed)
            self._iface.removeDockWidget(self.dock)
            self.dock.deleteLater()
            self.dock = None
        if self.runs is not None and self.client is not None:
            self.runs.watch(False)
            self.client.close()
            self.runs.deleteLater()
            self.client.deleteLater()
            self.runs = self.client = None
        if self.collections is not None:
            self.collections.deleteLater()
            self.collections = None
        if self.provider is not None:
            QgsApplication.processingRegistry().removeProvider(self.provider)
            self.provider = None
        _forget_members()

    def _prepare(self) -> None:
        """Do one more of the things that can wait in a turn of its own, so that QGIS is never held."""
        self._waiting.pop(0)()
        if self._waiting:
            self._later.start(0)

    def _add_actions(self) -> None:
        panel = QAction(QIcon(paths.icon("rsfm")), self.tr("RSFM Panel"), self)
        panel.setObjectName("rsfm_panel")
        if self.dock is not None:
            self.dock.setToggleVisibilityAction(panel)
        self._add_action(panel)
        for job in jobs().values():
            action = QAction(QIcon(paths.icon(job.page)), f"{job.title}\u2026", self)
            action.setObjectName(f"rsfm_{job.name}")
            action.triggered.connect(partial(self._open_job, job.name))
            self._add_action(action)

    def _add_tools(self) -> None:
        """Add the actions on selected raster layers."""
        if self.dock is not None:
            self._pair = PairAction(self._iface, self.dock.compare, self)
            self._swipe = SwipeAction(self._iface, self._pair.pair, self)
            self.dock.offer_swipe(self._swipe)

    def _add_action(self, action: QAction) -> None:
        self._iface.addPluginToRasterMenu(MENU, action)
        self._actions.append(action)

    def _open_job(self, name: str, _checked: bool = False) -> None:
        if self.dock is None:
            return
        if jobs()[name].page == IMAGERY:
            self.dock.open_imagery()
        else:
            self.dock.open_job(name)

    def _open_options(self) -> None:
        self._iface.showOptionsDialog(currentPage=PAGE)

    def _remember_closed(self) -> None:
        settings.write(settings.DOCK_SHOWN, "no")

    def _remember_opened(self) -> None:
        settings.write(settings.DOCK_SHOWN, "")


def _forget_members() -> None:
    """Forget the members of plural folders: QGIS reloads only what an import statement loaded."""
    for name in [name for name in sys.modules if name.startswith(MEMBERS)]:
        del sys.modules[name]
