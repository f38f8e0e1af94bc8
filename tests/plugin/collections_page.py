"""What tests of the page Imagery share: entries as the backend finds them, the table as it is read, drops, typing."""

import os
import subprocess

from qgis.core import (
    QgsLayerTreeModel,
)
from qgis.PyQt.QtCore import QPoint, QPointF, Qt
from qgis.PyQt.QtGui import QDropEvent

from rsfm_qgis.gui.imagery.model import DATE, RASTER, ROLE, SECOND_LINE

WRITE = """
import json, sys
from pathlib import Path
from rsfm.raster.collection import Collection, save
for line in sys.stdin:
    path, collection = json.loads(line)
    save(Path(path), Collection.model_validate(collection))
    print("saved", flush=True)
"""
LOAD = """
import sys
from rsfm.raster.collection import load
for line in sys.stdin:
    print(load(line.strip()).model_dump_json(), flush=True)
"""


class Backend:
    """A real backend that writes or loads collections, one line a question."""

    def __init__(self, code):
        command = [os.environ["RSFM_PYTHON"], "-E", "-s", "-c", code]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline()


def entry(path, **said):
    """An entry of three bands as the backend finds it."""
    bands = [{"number": n, "name": name, "wavelength_nm": None} for n, name in enumerate(("B2", "B3", "B4"), 1)]
    size = {"height": 8, "width": 8, "gsd": 10.0, "crs": "EPSG:32633", "dtype": "uint16"}
    return {"path": str(path), "bands": bands, "footprint": [15.0, 46.0, 15.001, 46.001], **size, **said}


def rows(page):
    """The table as it is read: name, facts, date, its mark, role."""
    page.keeper.finish()
    model = page.parts.model
    cells = ((RASTER, Qt.ItemDataRole.DisplayRole), (RASTER, SECOND_LINE), (DATE, Qt.ItemDataRole.DisplayRole),
             (DATE, SECOND_LINE), (ROLE, Qt.ItemDataRole.DisplayRole))  # fmt: skip
    return [tuple(model.index(row, column).data(role) for column, role in cells) for row in range(model.rowCount())]


def mime(project, layers):
    """What the layer panel gives when these layers are dragged."""
    tree = project.layerTreeRoot()
    model = QgsLayerTreeModel(tree)
    return model.mimeData([model.node2index(tree.findLayer(layer.id())) for layer in layers])


def drop(page, data):
    place = QPointF(5, 5) if hasattr(QDropEvent, "position") else QPoint(5, 5)
    event = QDropEvent(place, Qt.DropAction.CopyAction, data, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier)
    page.parts.table.dropEvent(event)


def show(page):
    """Look for collections again, and wait until the current one is read."""
    page._workspace.collections.listed.emit()
    page.keeper.finish()


def edit(page, row, column, text):
    """Type into a cell as a user does."""
    table = page.parts.table
    index = page.parts.model.index(row, column)
    table.setCurrentIndex(index)
    table.edit(index)
    delegate, editor = table.itemDelegate(), table.indexWidget(index) or table.viewport().focusWidget()
    editor = editor or next(child for child in table.viewport().children() if child.isWidgetType())
    editor.setText(text)
    delegate.commitData.emit(editor)
    delegate.closeEditor.emit(editor)


def collected(page, wait):
    """Wait until the backend has looked at everything."""
    keeper = page.keeper
    wait(lambda: not keeper.gathering.is_busy(keeper.path) and not keeper.slices.is_busy(), 60)
