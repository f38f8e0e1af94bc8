"""Runs inside QGIS: compares two selected layers from the layer tree's menu, refines by ten clicks, and quits."""

import json
import os
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import qgis.utils
from qgis.core import QgsProject, QgsRasterLayer, QgsVectorLayer
from qgis.PyQt.QtCore import QItemSelectionModel, QPoint, Qt, QTimer
from qgis.PyQt.QtTest import QTest
from qgis.PyQt.QtWidgets import QDockWidget
from qgis.utils import iface

OUT = Path(os.environ["RSFM_CHANGE"])
PAIRS = json.loads((OUT / "config.json").read_text())
WIDE, HIGH = 1280, 820
BEAT_MILLISECONDS = 10
seen: dict[str, Any] = {"two_clicks_s": {}, "clicks_s": {}, "longest_stop_ms": {}}
Step = tuple[Callable[[], Any], float]


class Heart:
    """Notes how long QGIS could not react."""

    def __init__(self) -> None:
        self.longest, self._last = 0.0, time.perf_counter()
        self._timer = QTimer()
        self._timer.timeout.connect(self._beat)
        self._timer.start(BEAT_MILLISECONDS)

    def start(self) -> None:
        self.longest = 0.0

    def _beat(self) -> None:
        now = time.perf_counter()
        self.longest, self._last = max(self.longest, now - self._last), now


heart = Heart()


def plugin() -> Any:
    return qgis.utils.plugins["rsfm_qgis"]


def picture(name: str) -> None:
    iface.mainWindow().grab().save(str(OUT / f"{name}.png"))


def pause(seconds: float) -> Step:
    until = time.monotonic() + seconds
    return (lambda: time.monotonic() > until), seconds + 5


def drawn() -> Step:
    return (lambda: not iface.mapCanvas().isDrawing()), 60


def load() -> Iterator[Step]:
    qgis.utils.updateAvailablePlugins()
    qgis.utils.loadPlugin("rsfm_qgis")
    qgis.utils.startPlugin("rsfm_qgis")
    QgsProject.instance().write(str(OUT / "project.qgz"))
    for dock in iface.mainWindow().findChildren(QDockWidget, "Browser"):
        dock.close()
    iface.mainWindow().resize(WIDE, HIGH)
    plugin().dock.setUserVisible(True)
    iface.mainWindow().resizeDocks([plugin().dock], [380], Qt.Orientation.Horizontal)
    yield (lambda: plugin().client.greeting), 60
    for pair in PAIRS:
        yield from compare(pair)
        if pair["clicks"]:
            yield from refine(pair)


def compare(pair: dict[str, Any]) -> Iterator[Step]:
    """Select both layers, open the menu of the layer tree, choose the entry, and wait for polygons on the canvas."""
    project, tree = QgsProject.instance(), iface.layerTreeView()
    project.removeAllMapLayers()
    project.layerTreeRoot().removeAllChildren()
    shown = [QgsRasterLayer(pair[date], Path(pair[date]).stem) for date in ("before", "after")]
    for layer in shown:
        if layer.renderer().type() == "multibandcolor":
            layer.renderer().setAlphaBand(-1)  # some files call their near infrared so
    project.addMapLayers(shown)
    project.setCrs(shown[0].crs())
    iface.mapCanvas().setExtent(shown[0].extent())
    yield pause(1)
    yield drawn()
    tree.selectionModel().clearSelection()
    for layer in shown:
        index = tree.node2index(project.layerTreeRoot().findLayer(layer.id()))
        tree.selectionModel().select(index, QItemSelectionModel.SelectionFlag.Select)
    tree.selectionModel().setCurrentIndex(index, QItemSelectionModel.SelectionFlag.NoUpdate)
    menu = tree.menuProvider().createContextMenu()
    (entry,) = [action for action in menu.actions() if action.objectName() == "rsfm_compare_selected"]
    heart.start()
    began = time.perf_counter()
    entry.trigger()

    def polygons() -> bool:
        vectors = [layer for layer in project.mapLayers().values() if isinstance(layer, QgsVectorLayer)]
        return any(layer.featureCount() > 0 for layer in vectors) or "failed" in states()

    yield polygons, 300
    yield drawn()
    seen["two_clicks_s"][pair["name"]] = round(time.perf_counter() - began, 2)
    seen["longest_stop_ms"][f"{pair['name']} compare"] = round(heart.longest * 1000)
    yield pause(1)
    picture(f"{pair['name']}_two_clicks")


def states() -> list[str]:
    return [run.state for run in plugin().runs.all()]


def refine(pair: dict[str, Any]) -> Iterator[Step]:
    """Click ten times on the canvas with the mouse, and wait for the layer after each."""
    panel = plugin().dock.open_job("refine_change")
    panel.form.set_values({"before": pair["before"], "after": pair["after"]})
    yield pause(0.5)
    panel.findChild(type(panel._scroll)).ensureWidgetVisible(panel.card)
    groups = QgsProject.instance().layerTreeRoot().findGroups()
    for group in groups:
        group.setItemVisibilityChecked(False)
    canvas, times = iface.mapCanvas(), []
    for kind, x, y in pair["clicks"]:
        button = panel.card.not_this if kind == "not this" else panel.card.this
        if not button.isChecked():
            QTest.mouseClick(button, Qt.MouseButton.LeftButton)
        place = canvas.getCoordinateTransform().transform(x, y)
        heart.start()
        began = time.perf_counter()
        at = QPoint(round(place.x()), round(place.y()))
        QTest.mouseClick(canvas.viewport(), Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, at)
        yield (lambda: not panel.card.refitter.is_busy()), 60
        yield drawn()
        times.append(round(time.perf_counter() - began, 2))
        seen["longest_stop_ms"][pair["name"]] = max(
            seen["longest_stop_ms"].get(pair["name"], 0), round(heart.longest * 1000)
        )
        yield pause(0.2)
    seen["clicks_s"][pair["name"]] = times
    seen.setdefault("said", {})[pair["name"]] = [panel.card.count.text(), panel.card.status.text()]
    yield pause(1)
    picture(f"{pair['name']}_ten_clicks")
    panel.card.slider.set_percent(1.5)
    yield pause(0.5)
    yield drawn()
    yield pause(0.5)
    picture(f"{pair['name']}_slider")


def finish() -> None:
    (OUT / "result.json").write_text(json.dumps(seen, indent=1), encoding="utf-8")
    os._exit(0)


def advance() -> None:
    global is_ready, deadline
    try:
        if is_ready():
            is_ready, seconds = next(steps)
            deadline = time.monotonic() + seconds
        elif time.monotonic() > deadline:
            picture("timeout")
            raise TimeoutError("a step took too long")
    except StopIteration:
        finish()
    except BaseException:
        seen["failed"] = traceback.format_exc()
        finish()


is_ready: Callable[[], Any] = lambda: True  # noqa: E731
deadline = time.monotonic() + 60
steps = load()
clock = QTimer()
clock.timeout.connect(advance)
clock.start(20)
