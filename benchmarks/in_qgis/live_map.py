"""Runs inside QGIS for `benchmarks/live_map.py`: edits polygons, and takes the time until the new map is drawn."""

import json
import os
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import qgis.utils
from qgis.core import (
    QgsCategorizedSymbolRenderer,
    QgsFeature,
    QgsFillSymbol,
    QgsGeometry,
    QgsProject,
    QgsRasterLayer,
    QgsRectangle,
    QgsRendererCategory,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import Qt, QTimer
from qgis.PyQt.QtWidgets import QDockWidget
from qgis.utils import iface

OUT = Path(os.environ["RSFM_LIVE_MAP"])
WORK = json.loads((OUT / "work.json").read_text())
COLOURS = {"bare": "#e69f00", "crop": "#f0e442", "forest": "#009e73", "water": "#0072b2"}
PIXEL, WEST, NORTH = 10, 500000, 5100000
seen: dict[str, Any] = {"latencies": [], "moves": [], "gap": 0.0}
Step = tuple[Callable[[], Any], float]
drawn = [0.0]


def plugin() -> Any:
    return qgis.utils.plugins["rsfm_qgis"]


def picture(name: str) -> None:
    iface.mainWindow().grab().save(str(OUT / f"{name}.png"))


def pause(seconds: float) -> Step:
    until = time.monotonic() + seconds
    return (lambda: time.monotonic() > until), seconds + 20


def load() -> Iterator[Step]:
    qgis.utils.updateAvailablePlugins()
    qgis.utils.loadPlugin("rsfm_qgis")
    qgis.utils.startPlugin("rsfm_qgis")
    project = QgsProject.instance()
    raster = QgsRasterLayer(str(OUT / "scene.tif"), "scene")
    project.addMapLayer(raster)
    project.setCrs(raster.crs())
    labels = QgsVectorLayer("Polygon?crs=EPSG:32633&field=class:string", "training areas", "memory")
    categories = [
        QgsRendererCategory(name, QgsFillSymbol.createSimple({"color": colour}), name)
        for name, colour in COLOURS.items()
    ]
    labels.setRenderer(QgsCategorizedSymbolRenderer("class", categories))
    project.addMapLayer(labels)
    project.write(str(OUT / "project.qgz"))
    for dock in iface.mainWindow().findChildren(QDockWidget, "Browser"):
        dock.close()
    iface.mainWindow().resize(1366, 860)
    plugin().dock.setUserVisible(True)
    iface.mainWindow().resizeDocks([plugin().dock], [380], Qt.Orientation.Horizontal)
    iface.mapCanvas().setExtent(raster.extent())
    iface.mapCanvas().mapCanvasRefreshed.connect(lambda: drawn.__setitem__(0, time.perf_counter()))
    yield (lambda: plugin().client.greeting), 30
    panel = plugin().dock.open_job("finetune")
    yield pause(1)
    panel.form.set_values({"raster": raster.source(), "class_field": "class", "model": None})
    panel.form.editor("labels").choice.combo.setLayer(labels)
    labels.startEditing()
    for place in WORK["squares"][:20]:
        labels.addFeature(feature(labels, *place))
    yield pause(1)
    started = time.perf_counter()
    iface.mapCanvas().refreshAllLayers()
    yield (lambda: drawn[0] > started), 60
    seen["floor"] = drawn[0] - started


def feature(labels: Any, row: int, column: int, name: str) -> QgsFeature:
    made = QgsFeature(labels.fields())
    made.setAttribute("class", name)
    made.setGeometry(QgsGeometry.fromRect(rectangle(row, column)))
    return made


def rectangle(row: int, column: int, side: int = 12) -> QgsRectangle:
    west, north = WEST + column * PIXEL, NORTH - row * PIXEL
    return QgsRectangle(west, north - side * PIXEL, west + side * PIXEL, north)


def source() -> str:
    """Return the file of the map that is shown."""
    found = [layer for layer in QgsProject.instance().mapLayers().values() if layer.name() == "Map while I label"]
    return str(found[0].source()) if found else ""


def until_drawn(started: float, before: str) -> Step:
    """Wait until another map than before is shown and the canvas has drawn it."""
    changed = [0.0]

    def is_drawn() -> bool:
        if not changed[0] and source() not in {"", before}:
            changed[0] = time.perf_counter()
        return bool(changed[0]) and drawn[0] > changed[0] and not iface.mapCanvas().isDrawing()

    return is_drawn, 60


def calm() -> Iterator[Step]:
    """Wait until no other map comes."""
    last = [source(), time.monotonic()]

    def is_calm() -> bool:
        if source() != last[0]:
            last[:] = [source(), time.monotonic()]
        return time.monotonic() - float(last[1]) > 0.8

    yield is_calm, 60


def edit(labels: Any, number: int) -> None:
    """Do one of several kinds of edits, none of them saved."""
    row, column, name = WORK["squares"][20 + number]
    ids = sorted(each.id() for each in labels.getFeatures())
    kind = number % 5
    if kind in {0, 1}:
        labels.addFeature(feature(labels, row, column, name))
    elif kind == 2:
        labels.changeGeometry(ids[0], QgsGeometry.fromRect(rectangle(row, column)))
        labels.changeAttributeValue(ids[0], 0, name)
    elif kind == 3:
        labels.changeAttributeValue(ids[0], 0, WORK["names"][number % len(WORK["names"])])
    else:
        labels.deleteFeature(ids[0])


def measure() -> Iterator[Step]:
    labels = QgsProject.instance().mapLayersByName("training areas")[0]
    picture("before")
    bar = plugin().dock.labelling
    started = time.perf_counter()
    bar.switch.setChecked(True)
    yield until_drawn(started, "")
    seen["first"] = time.perf_counter() - started
    yield from calm()
    picture("first")
    beat()
    for number in range(WORK["edits"]):
        before, started = source(), time.perf_counter()
        edit(labels, number)
        yield until_drawn(started, before)
        seen["latencies"].append(drawn[0] - started)
        keep()
        yield from calm()
    picture("edited")
    whole = QgsRectangle(iface.mapCanvas().extent())
    for step in range(6):
        box = QgsRectangle(whole)
        box.scale(0.5)
        box.setXMinimum(box.xMinimum() + 300 * (step % 3))
        box.setXMaximum(box.xMaximum() + 300 * (step % 3))
        before, started = source(), time.perf_counter()
        iface.mapCanvas().setExtent(whole if step % 2 else box)
        iface.mapCanvas().refresh()
        yield until_drawn(started, before)
        seen["moves"].append(drawn[0] - started)
        yield from calm()
    seen["said"] = bar.status.text()
    bar.next.click()
    yield bar.next.isEnabled, 120
    yield pause(3)
    picture("where_to_label")
    bar.switch.setChecked(False)
    yield pause(2)
    seen["left"] = [run.title for run in plugin().runs.all()]
    picture("off")
    labels.rollBack()


def beat() -> None:
    """Remember the longest time between two turns of the event loop."""
    last = [time.perf_counter()]

    def tick() -> None:
        now = time.perf_counter()
        seen["gap"] = max(seen["gap"], now - last[0])
        last[0] = now

    pulse.timeout.connect(tick)
    pulse.start(5)


def script() -> Iterator[Step]:
    yield from load()
    yield from measure()


def keep() -> None:
    (OUT / "result.json").write_text(json.dumps(seen, indent=1), encoding="utf-8")


def finish() -> None:
    keep()
    os._exit(0)


def advance() -> None:
    global is_ready, deadline
    try:
        if is_ready():
            is_ready, seconds = next(steps)
            deadline = time.monotonic() + seconds
        elif time.monotonic() > deadline:
            picture("late")
            raise TimeoutError(plugin().dock.labelling.status.text())
    except StopIteration:
        finish()
    except BaseException:
        seen["failed"] = traceback.format_exc()
        finish()


is_ready: Callable[[], Any] = lambda: True  # noqa: E731
deadline = time.monotonic() + 30
steps = script()
pulse, clock = QTimer(), QTimer()
clock.timeout.connect(advance)
clock.start(10)
