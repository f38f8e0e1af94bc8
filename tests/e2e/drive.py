"""Runs inside a real QGIS window: clicks through the work in the dock, takes pictures, writes what it saw, quits."""

import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import qgis.utils
from qgis.core import QgsApplication, QgsProject, QgsRasterLayer, QgsVectorLayer
from qgis.PyQt.QtCore import QEvent, QPoint, Qt, QTimer
from qgis.PyQt.QtTest import QTest
from qgis.PyQt.QtWidgets import QDockWidget
from qgis.utils import iface

HERE = Path(os.environ["RSFM_E2E_CODE"])
OUT = Path(os.environ["RSFM_E2E_OUT"])
SCENE = Path(os.environ["RSFM_E2E_SCENE"])
sys.path.insert(0, str(HERE))

from watchdog import Heartbeat, Stopwatch  # noqa: E402

MINUTES = 0.3
BEFORE, AFTER = "scene_2023-07-15", "scene_2024-07-12"
seen: dict[str, Any] = {"steps": [], "runs": {}, "exceptions": []}
stopwatch, heartbeat = Stopwatch(), Heartbeat()
Step = tuple[Callable[[], Any], float]


def remember_exception(type: Any, value: Any, trace: Any, *_more: Any, **_named: Any) -> None:
    """Stand in for QGIS's dialog, which nobody would close."""
    seen["exceptions"].append("".join(traceback.format_exception(type, value, trace)))
    print(seen["exceptions"][-1], file=sys.stderr, flush=True)


qgis.utils.showException = remember_exception


def plugin() -> Any:
    return qgis.utils.plugins["rsfm_qgis"]


def click(widget: Any) -> None:
    QTest.mouseClick(widget, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, QPoint(widget.width() // 2, 8))


def picture(name: str, widget: Any = None) -> None:
    (widget or iface.mainWindow()).grab().save(str(OUT / f"{name}.png"))


def step(name: str) -> None:
    heartbeat.step = name
    seen["steps"].append(name)


def pause(seconds: float) -> Step:
    until = time.monotonic() + seconds
    return (lambda: time.monotonic() > until), seconds + 5


def run(job: str, values: dict[str, Any]) -> Iterator[Step]:
    """Fill in a form, click Run, and wait for the end of the run."""
    dock, runs = plugin().dock, plugin().runs
    panel = plugin().dock.open_job(job)
    panel.form.set_values(values)
    yield pause(0.3)
    picture(f"{job}_form")
    before = {each.folder for each in runs.all()}
    click(panel.run_button)
    new: list[Any] = []

    def is_new() -> bool:
        new[:] = [each for each in runs.all() if each.folder not in before]
        return bool(new) or dock.panels[job].form.first_mark() is not None

    yield is_new, 20
    if not new:
        raise AssertionError(f"{job} did not start: {panel.reason.text()} {panel.form.first_mark().text()}")
    folder = new[0].folder
    yield (lambda: runs.get(folder).fraction > 0.02 or not runs.get(folder).is_live), 60
    picture(f"{job}_running")
    yield (lambda: not runs.get(folder).is_live), 240
    yield pause(1.5)
    state = runs.get(folder)
    seen["runs"][job] = {
        "state": state.state,
        "error": state.error,
        "outputs": [output.kind for output in state.outputs],
    }
    picture(f"{job}_done")


def start() -> Iterator[Step]:
    step("load")
    qgis.utils.updateAvailablePlugins()
    stopwatch.watch("rsfm_qgis")
    started = time.perf_counter()
    seen["loaded"] = qgis.utils.loadPlugin("rsfm_qgis") and qgis.utils.startPlugin("rsfm_qgis")
    seen["load_ms"] = (time.perf_counter() - started) * 1000
    project = QgsProject.instance()
    project.addMapLayers([QgsRasterLayer(str(SCENE / f"{name}.tif"), name) for name in (AFTER, BEFORE)])
    labels = QgsVectorLayer(str(SCENE / "labels.gpkg"), "labels")
    project.addMapLayer(labels)
    project.write(str(OUT / "project" / "project.qgz"))
    iface.mainWindow().resize(1366, 768)
    iface.mapCanvas().setExtent(project.mapLayersByName(BEFORE)[0].extent())
    plugin().dock.setUserVisible(True)
    iface.mainWindow().resizeDocks([plugin().dock], [360], Qt.Orientation.Horizontal)
    step("hello")
    yield (lambda: plugin().client.greeting), 30
    yield pause(1)
    picture("start")


def imagery() -> Iterator[Step]:
    """Add the selected layers to a new collection, and wait until the backend has looked at them."""
    step("imagery")
    page = plugin().dock.open_imagery()
    iface.layerTreeView().selectAll()
    yield pause(0.3)
    click(page.parts.add_layers)
    yield (lambda: page.parts.model.rowCount() == 2), 20
    yield (lambda: not page.keeper.gathering.is_busy(page.keeper.path)), 60
    yield pause(0.5)
    seen["collection"] = [(entry["date"], len(entry["bands"]), entry["problem"]) for entry in page.keeper.entries]
    seen["said"] = page.parts.status.text()
    picture("imagery")


def work() -> Iterator[Step]:
    raster = str(SCENE / f"{BEFORE}.tif")
    step("pretrain")
    yield from run("pretrain", {"rasters": [raster], "training": {"minutes": MINUTES}})
    model = plugin().runs.models()[0].path
    step("finetune")
    labels = f"{SCENE / 'labels.gpkg'}"
    yield from run("finetune", {"raster": raster, "labels": labels, "class_field": "class", "model": model})
    step("segment")
    yield from run("segment", {"raster": raster, "polygons": True})
    step("detect_change")
    yield from run("detect_change", {"before": raster, "after": str(SCENE / f"{AFTER}.tif")})
    root = QgsProject.instance().layerTreeRoot()
    seen["groups"] = {group.name(): [node.name() for node in group.findLayers()] for group in root.findGroups()}


def mistakes() -> Iterator[Step]:
    """Ask for what cannot be: the wrong parameter is marked where it is."""
    step("mistake")
    dock = plugin().dock
    panel = plugin().dock.open_job("segment")
    panel.form.set_values({"polygons": False, "tiling": {"tile_size": 64, "tile_overlap": 512}})
    yield pause(0.3)
    click(panel.run_button)
    yield (lambda: panel.form.first_mark() is not None), 30
    yield pause(1)
    seen["mark"] = panel.form.first_mark().text()
    picture("mistake")
    step("narrow")
    size = dock.widget().minimumSizeHint()
    seen["minimum"] = [max(size.width(), dock.minimumSizeHint().width()), dock.minimumSizeHint().height()]
    iface.mainWindow().resizeDocks([dock], [300], Qt.Orientation.Horizontal)
    dock.strip.history.setChecked(True)
    yield pause(0.5)
    dock.open_imagery()
    yield pause(0.2)
    picture("narrow_imagery", dock)
    for name in ("pretrain", "finetune", "segment", "detect_change", "embed"):
        dock.open_job(name)
        yield pause(0.2)
        picture(f"narrow_{name}", dock)
    seen["narrow_width"] = dock.width()


def reload() -> Iterator[Step]:
    """Ten times off and on: nothing is left over."""
    step("reload")
    seen["before_reload"] = leftovers()
    for _ in range(10):
        yield (lambda: plugin().client.greeting), 30
        qgis.utils.reloadPlugin("rsfm_qgis")
        yield pause(0.3)
    seen["after_reload"] = leftovers()
    qgis.utils.unloadPlugin("rsfm_qgis")
    yield pause(0.5)
    seen["after_unload"] = leftovers()


def leftovers() -> dict[str, int]:
    QgsApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    window = iface.mainWindow()
    menus = [action.menu() for action in iface.rasterMenu().actions() if action.text() == "RSFM"]
    providers = [each for each in QgsApplication.processingRegistry().providers() if each.id() == "rsfm"]
    docks = [dock for dock in window.findChildren(QDockWidget) if dock.objectName() == "RsfmDock"]
    return {
        "menus": len(menus),
        "actions": sum(len(menu.actions()) for menu in menus),
        "providers": len(providers),
        "docks": len(docks),
        "processes": servers(),
    }


def servers() -> int:
    """Count the server processes that this QGIS started."""
    found = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status = (folder / "stat").read_text().rpartition(")")[2].split()
            command = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        found += int(status[1]) == os.getpid() and b"serve" in command
    return found


def script() -> Iterator[Step]:
    yield from start()
    yield from imagery()
    yield from work()
    yield from mistakes()
    yield from reload()


def finish() -> None:
    slow = {name: [round(part, 1) for part in spent] for name, spent in stopwatch.longest.items() if spent.wall > 20}
    seen["slow_functions_ms"] = dict(sorted(slow.items(), key=lambda entry: -entry[1][0]))
    seen["longest_collection_ms"] = round(stopwatch.longest_collection, 1)
    seen["gaps_ms"] = {name: round(gap, 1) for name, gap in heartbeat.gaps.items()}
    (OUT / "result.json").write_text(json.dumps(seen, indent=1), encoding="utf-8")
    os._exit(0)


def advance() -> None:
    global is_ready, deadline
    try:
        if is_ready():
            is_ready, seconds = next(steps)
            deadline = time.monotonic() + seconds
        elif time.monotonic() > deadline:
            raise TimeoutError(f"in step {heartbeat.step}")
    except StopIteration:
        finish()
    except BaseException:
        seen["failed"] = traceback.format_exc()
        print(seen["failed"], file=sys.stderr, flush=True)
        finish()


is_ready: Callable[[], Any] = lambda: True  # noqa: E731
deadline = time.monotonic() + 30
steps = script()
clock = QTimer()
clock.timeout.connect(advance)
clock.start(50)
