"""The page Imagery: choose a collection, add rasters, see what is known of them, correct it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from qgis.core import QgsRasterLayer
from qgis.PyQt.QtCore import QPoint, Qt, QTimer, pyqtSignal
from qgis.PyQt.QtGui import QShowEvent
from qgis.PyQt.QtWidgets import QFileDialog, QMenu, QVBoxLayout, QWidget

from rsfm_qgis.collection import is_looked_at, title
from rsfm_qgis.collection_keeper import CollectionKeeper
from rsfm_qgis.gui.editor import Workspace
from rsfm_qgis.gui.imagery.findings import Findings, find
from rsfm_qgis.gui.imagery.model import DATE, is_doubtful
from rsfm_qgis.gui.imagery.parts import Parts
from rsfm_qgis.gui.imagery.sources import Sources, from_drop, from_files, from_layers


class ImageryPage(QWidget):
    """Edits the collections of the project.

    Signals:
        warned: what went wrong, for the message bar.
    """

    warned = pyqtSignal(str)

    def __init__(self, workspace: Workspace) -> None:
        super().__init__()
        self._workspace, self._collections = workspace, workspace.collections
        self.keeper = CollectionKeeper(workspace.collections, workspace.runs, self)
        self._parts: Parts | None = None
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)

    @property
    def parts(self) -> Parts:
        """The widgets, made when they are first asked for."""
        if self._parts is None:
            self._parts = Parts(self._workspace)
            self.layout().addWidget(self._parts)
            self._connect(self._parts)
            self._list()
        return self._parts

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        QTimer.singleShot(0, self._make)  # the tab first, then its widgets

    def add(self, found: Sources) -> None:
        """Add what was dropped or chosen; an online map is offered to be fetched."""
        if found.entries or found.folders or found.online:
            self._need_collection()
        if found.entries or found.folders:
            self._say("")
            self.keeper.add(found.entries, found.folders)
        if found.online:
            self.parts.fetch_panel.offer(found.online)
            self._bring(self.parts.fetch_panel)
        if found.refused:
            names = ", ".join(found.refused[:3])
            self._say(self.tr("Not added, because they are no rasters that a file holds: {0}.").format(names))

    def _make(self) -> None:
        self.parts.show()

    def _connect(self, parts: Parts) -> None:
        self._collections.listed.connect(self._list)
        self.keeper.changed.connect(self._show)
        self.keeper.failed.connect(self.warned)
        self.keeper.known.connect(self._say_known)
        parts.combo.activated.connect(self._choose)
        parts.new_button.clicked.connect(self._ask_name)
        parts.create_button.clicked.connect(self._create)
        parts.name.returnPressed.connect(self._create)
        parts.keep_button.clicked.connect(parts.naming.hide)
        parts.table.dropped.connect(self._drop)
        parts.table.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        parts.table.customContextMenuRequested.connect(self._open_menu)
        parts.table.selectionModel().currentChanged.connect(self._show_details)
        parts.model.wants_change.connect(self.keeper.change)
        parts.model.refused.connect(self._say)
        parts.add_layers.clicked.connect(self._add_layers)
        parts.add_files.setMenu(self._add_menu())
        parts.remove_button.clicked.connect(self._remove)
        parts.table.wants_removal.connect(self._remove)
        parts.undo_button.clicked.connect(self._undo)
        parts.change_bands.toggled.connect(self._show_bands)
        parts.bands_panel.wants_change.connect(self.keeper.change)
        parts.bands_panel.closed.connect(partial(parts.change_bands.setChecked, False))
        parts.check_dates.toggled.connect(self._show)
        parts.dates_right.clicked.connect(self._confirm_dates)
        parts.read_button.clicked.connect(self._look_at_unread)
        parts.fetch_panel.fetched.connect(self._add_fetched)
        parts.fetch_panel.failed.connect(self.warned)

    def _list(self) -> None:
        """Show the collections of the project, and open the current one unless it is open."""
        combo, current = self.parts.combo, self._collections.current()
        combo.clear()
        for path in self._collections.all():
            combo.addItem(title(path), path)
            combo.setItemData(combo.count() - 1, path, Qt.ItemDataRole.ToolTipRole)
        combo.setCurrentIndex(combo.findData(current))
        combo.setEnabled(combo.count() > 0)
        if current != self.keeper.path:
            self.keeper.open(current)
        else:
            self._show()

    def _choose(self, _index: int) -> None:
        self._collections.choose(self.parts.combo.currentData())

    def _ask_name(self) -> None:
        self.parts.name.setText(self._collections.suggest())
        self.parts.naming.show()
        self.parts.name.selectAll()
        self.parts.name.setFocus()

    def _create(self) -> None:
        self.parts.naming.hide()
        self._make_collection(self.parts.name.text())

    def _need_collection(self) -> None:
        if not self.keeper.path:
            self._make_collection(self._collections.suggest())

    def _make_collection(self, name: str) -> None:
        try:
            self._collections.create(name)
        except OSError as error:
            self.warned.emit(self.tr("The collection cannot be made: {0}. Save the project first.").format(error))

    def _show(self, _what: Any = None) -> None:
        """Set all widgets to the state of the collection."""
        parts, entries = self.parts, self.keeper.entries
        is_busy = self.keeper.gathering.is_busy(self.keeper.path)
        found = find(entries, is_busy)
        parts.model.show_entries(entries, parts.check_dates.isChecked())
        parts.bands.setText(found.bands or "\u2013")
        parts.dates.setText(found.dates or "\u2013")
        parts.warnings.setText("\n".join(f"\u26a0 {sentence}" for sentence in found.warnings))
        parts.warnings.setVisible(bool(found.warnings))
        parts.read_button.setVisible(not is_busy and found.unread > 0)
        parts.change_bands.setEnabled(bool(found.dates) or parts.change_bands.isChecked())
        parts.check_dates.setEnabled(found.guessed + found.undated > 0 or parts.check_dates.isChecked())
        parts.remove_button.setEnabled(bool(entries))
        self._show_doubt(found)
        self._show_bands()
        self._show_details()

    def _show_doubt(self, found: Findings) -> None:
        parts = self.parts
        parts.dates_panel.setVisible(parts.check_dates.isChecked())
        text = self.tr("{0} read from names, {1} unknown. Correct them in the table.")
        is_certain = found.guessed + found.undated == 0
        parts.dates_said.setText(
            self.tr("All dates are certain.") if is_certain else text.format(found.guessed, found.undated)
        )
        parts.dates_right.setVisible(found.guessed > 0)

    def _show_bands(self, _on: Any = None) -> None:
        panel, is_open = self.parts.bands_panel, self.parts.change_bands.isChecked()
        if is_open:
            panel.show_entries(self.keeper.entries)
        if is_open != panel.isVisibleTo(self):
            panel.setVisible(is_open)
            self._bring(panel)

    def _bring(self, panel: QWidget) -> None:
        """Scroll to a panel that was opened, once it has its place."""
        if panel.isVisibleTo(self):
            QTimer.singleShot(0, partial(self.parts.ensureWidgetVisible, panel))

    def _show_details(self, *_indexes: Any) -> None:
        """Show all that is odd about the current raster, unless it stands among the warnings."""
        index = self.parts.table.currentIndex()
        entry = self.parts.model.entry(index.row()) if index.isValid() else None
        text = (entry["problem"] or entry["note"]) if entry is not None and is_looked_at(entry) else ""
        self.parts.details.setText(text)
        self.parts.details.setVisible(bool(text) and text not in self.parts.warnings.text())

    def _add_menu(self) -> QMenu:
        menu = QMenu(self)
        menu.addAction(self.tr("Files\u2026"), self._add_files)
        menu.addAction(self.tr("Folder\u2026"), self._add_folder)
        return menu

    def _drop(self, data: Any) -> None:
        self.add(from_drop(data, self._workspace.project))

    def _add_layers(self) -> None:
        tree = self._workspace.layer_tree
        chosen = {layer.id() for layer in tree.selectedLayersRecursive()} if tree is not None else set()
        if not chosen:
            self._say(self.tr("Select raster layers in the layer panel first."))
        in_order = self._workspace.project.layerTreeRoot().findLayers()
        self.add(from_layers([node.layer() for node in in_order if node.layerId() in chosen]))

    def _add_files(self) -> None:
        paths, _ = QFileDialog.getOpenFileNames(self, self.tr("Add Rasters"), "", self.tr("Rasters (*)"))
        self.add(from_files(paths))

    def _add_folder(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, self.tr("Add the Rasters of a Folder"))
        self.add(from_files([folder] if folder else []))

    def _add_fetched(self, path: str) -> None:
        self.add(from_files([path]))

    def _remove(self) -> None:
        paths = self.parts.table.selected_paths()
        if paths:
            self.keeper.remove(paths)
            self._say(self.tr("{0} taken out of the collection; the files stay.").format(len(paths)), True)

    def _undo(self) -> None:
        self.keeper.restore()
        self._say("")

    def _confirm_dates(self) -> None:
        sure = [entry["path"] for entry in self.keeper.entries if is_doubtful(entry) and entry["date"]]
        self.keeper.change(sure, {"date_source": "table"})

    def _look_at_unread(self) -> None:
        self.keeper.look_again([entry["path"] for entry in self.keeper.entries if not is_looked_at(entry)])

    def _open_menu(self, place: QPoint) -> None:
        table, paths = self.parts.table, self.parts.table.selected_paths()
        if not paths:
            return
        menu = QMenu(table)
        menu.addAction(self.tr("Use"), partial(self.keeper.change, paths, {"used": True}))
        menu.addAction(self.tr("Leave Out"), partial(self.keeper.change, paths, {"used": False}))
        roles = menu.addMenu(self.tr("Role"))
        for role, word in self.parts.model.role_words().items():
            roles.addAction(word, partial(self.keeper.change, paths, {"role": role}))
        menu.addAction(self.tr("Edit the Date"), partial(table.edit, table.currentIndex().siblingAtColumn(DATE)))
        menu.addSeparator()
        menu.addAction(self.tr("Add to the Map"), partial(self._add_to_map, paths))
        menu.addAction(self.tr("Look Again"), partial(self.keeper.look_again, paths))
        menu.addAction(self.tr("Remove"), self._remove)
        menu.popup(table.viewport().mapToGlobal(place))

    def _add_to_map(self, paths: list[str]) -> None:
        layers = [QgsRasterLayer(path, Path(path).stem) for path in paths]
        self._workspace.project.addMapLayers([layer for layer in layers if layer.isValid()])

    def _say_known(self, count: int) -> None:
        self._say(self.tr("{0} were in the collection already.").format(count))

    def _say(self, text: str, can_undo: bool = False) -> None:
        self.parts.status.setText(text)
        self.parts.undo_button.setVisible(can_undo)
