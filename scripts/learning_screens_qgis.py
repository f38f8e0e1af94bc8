"""Runs inside QGIS: pretrains from the dock, takes a picture at each learning map, joins three of them, and quits."""

import json
import os
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import qgis.utils
from qgis.core import QgsApplication, QgsProject, QgsRasterLayer, QgsVectorLayer
from qgis.PyQt.QtCore import QEvent, QPoint, QPointF, QRect, Qt, QTimer
from qgis.PyQt.QtGui import QColor, QMouseEvent, QPainter, QPixmap
from qgis.PyQt.QtTest import QTest
from qgis.PyQt.QtWidgets import QApplication, QDockWidget
from qgis.utils import iface

OUT = Path(os.environ["RSFM_LEARNING"])
CONFIG = json.loads((OUT / "config.json").read_text())
WIDE, HIGH = 1280, 800
seen: dict[str, Any] = {"maps": []}
Step = tuple[Callable[[], Any], float]


def plugin() -> Any:
    return qgis.utils.plugins["rsfm_qgis"]


def picture(name: str, widget: Any = None) -> QPixmap:
    taken: QPixmap = (widget or iface.mainWindow()).grab()
    taken.save(str(OUT / f"{name}.png"))
    return taken


def pause(seconds: float) -> Step:
    until = time.monotonic() + seconds
    return (lambda: time.monotonic() > until), seconds + 5


def load() -> Iterator[Step]:
    qgis.utils.updateAvailablePlugins()
    qgis.utils.loadPlugin("rsfm_qgis")
    qgis.utils.startPlugin("rsfm_qgis")
    project = QgsProject.instance()
    raster = QgsRasterLayer(CONFIG["rasters"][0], "NAIP 2016")
    raster.renderer().setAlphaBand(-1)  # the file calls its near infrared so
    project.addMapLayer(raster)
    project.setCrs(raster.crs())
    labels = QgsVectorLayer(CONFIG["labels"], "labels")
    project.addMapLayer(labels)
    project.layerTreeRoot().findLayer(labels.id()).setItemVisibilityChecked(False)
    project.write(str(OUT / "project.qgz"))
    for dock in iface.mainWindow().findChildren(QDockWidget, "Browser"):
        dock.close()
    iface.mainWindow().resize(WIDE, HIGH)
    iface.mapCanvas().setExtent(raster.extent())
    plugin().dock.setUserVisible(True)
    iface.mainWindow().resizeDocks([plugin().dock], [380], Qt.Orientation.Horizontal)
    yield (lambda: plugin().client.greeting), 30


def learn() -> Iterator[Step]:
    """Run a pretraining, and take a picture whenever another learning map is on the canvas."""
    dock, runs, canvas = plugin().dock, plugin().runs, iface.mapCanvas()
    panel = dock.open_job("pretrain")
    panel.form.set_values(CONFIG)
    yield pause(1)
    picture("form")
    QTest.mouseClick(panel.run_button, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, QPoint(20, 8))
    yield (lambda: runs.all()), 30
    folder, shots, shown = runs.all()[0].folder, [], ""

    def is_new() -> bool:
        return map_title() != shown or not runs.get(folder).is_live

    while runs.get(folder).is_live:
        yield is_new, CONFIG["training"]["minutes"] * 60 + 120
        if not runs.get(folder).is_live or not map_title():
            break
        shown = map_title()
        yield (lambda: not canvas.isDrawing()), 20
        yield pause(1.5)
        seen["maps"].append(shown)
        shots.append(canvas.grab())
        shots[-1].save(str(OUT / f"map_{len(shots)}.png"))
        picture(f"window_{len(shots)}")
        seen["chart_visible"] = dock.chart.isVisible()
    yield pause(2)
    seen["state"] = runs.get(folder).state
    picture("window_done")
    join(shots[:3], seen["maps"][:3])
    yield from chart(dock, folder)


def map_title() -> str:
    """Return the name of the layer that shows what the encoder sees."""
    names = [layer.name() for layer in QgsProject.instance().mapLayers().values() if "sees" in layer.name()]
    return names[0] if names else ""


def chart(dock: Any, folder: str) -> Iterator[Step]:
    """Take pictures of the chart: as it is, with values under the pointer, narrow, by minutes and in a dark theme."""
    dock.charts.open(folder)
    yield pause(1)
    card = dock.chart
    picture("chart", card)
    hover(card.chart, 0.6)
    picture("chart_hover", card)
    card.minutes.setChecked(True)
    iface.mainWindow().resizeDocks([dock], [300], Qt.Orientation.Horizontal)
    yield pause(0.5)
    seen["narrow"] = [dock.width(), card.width()]
    picture("dock_narrow", dock)
    for index in range(card.quantity.count()):
        card.quantity.setCurrentIndex(index)
        picture(f"chart_{card.quantity.currentData()}", card)
    card.quantity.setCurrentIndex(0)
    QgsApplication.setUITheme("Night Mapping")
    yield pause(1)
    hover(card.chart, 0.3)
    picture("dock_dark", dock)


def hover(widget: Any, share: float) -> None:
    place = QPointF(widget.width() * share, widget.height() / 2)
    none = Qt.MouseButton.NoButton
    event = QMouseEvent(QEvent.Type.MouseMove, place, none, none, Qt.KeyboardModifier.NoModifier)
    QApplication.sendEvent(widget, event)


def join(shots: list[QPixmap], titles: list[str]) -> None:
    """Put pictures of the canvas side by side, the middle of each, under their titles."""
    width, height, line = 330, 520, 24
    joined = QPixmap(len(shots) * (width + 6) - 6, height + line)
    joined.fill(QColor("white"))
    painter = QPainter(joined)
    for number, (shot, title) in enumerate(zip(shots, titles)):
        scaled = shot.scaledToHeight(height, Qt.TransformationMode.SmoothTransformation)
        middle = QRect((scaled.width() - width) // 2, 0, width, height)
        painter.drawPixmap(number * (width + 6), line, scaled.copy(middle))
        painter.drawText(QPoint(number * (width + 6) + 4, line - 7), title)
    painter.end()
    joined.save(str(OUT / "learning.png"))


def script() -> Iterator[Step]:
    yield from load()
    yield from learn()


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
            raise TimeoutError
    except StopIteration:
        finish()
    except BaseException:
        seen["failed"] = traceback.format_exc()
        finish()


is_ready: Callable[[], Any] = lambda: True  # noqa: E731
deadline = time.monotonic() + 30
steps = script()
clock = QTimer()
clock.timeout.connect(advance)
clock.start(50)
