"""Runs inside QGIS: loads the demo's layers, saves the project and a picture of the window, and quits."""

import json
import os
import sys
import traceback
from pathlib import Path

from qgis.core import QgsProject, QgsRasterLayer
from qgis.PyQt.QtCore import QTimer
from qgis.utils import iface

OUT = Path(os.environ["RSFM_DEMO"])
sys.path.insert(0, os.environ["RSFM_CODE"])


def load() -> None:
    from rsfm_qgis.layers import add_outputs

    project = QgsProject.instance()
    outputs = json.loads((OUT / "layers.json").read_text(encoding="utf-8"))
    by_run: dict[str, list[dict]] = {}
    for output in outputs:
        by_run.setdefault(output["run"], []).append(output)
    for run, group in by_run.items():
        add_outputs(project, run, group)
    rasters = [layer for layer in project.mapLayers().values() if isinstance(layer, QgsRasterLayer)]
    project.setCrs(rasters[0].crs())
    iface.mapCanvas().setExtent(rasters[0].extent())
    iface.mapCanvas().refresh()
    project.write(str(OUT / "project.qgz"))


def picture() -> None:
    canvas = iface.mapCanvas()
    if canvas.isDrawing():
        QTimer.singleShot(300, picture)
        return
    iface.mainWindow().grab().save(str(OUT / "map.png"))
    quit_now()


def quit_now() -> None:
    QgsProject.instance().setDirty(False)
    QTimer.singleShot(0, lambda: os._exit(0))


def start() -> None:
    try:
        iface.mainWindow().resize(1500, 950)
        load()
    except Exception:
        traceback.print_exc()
        quit_now()
        return
    QTimer.singleShot(2500, picture)


QTimer.singleShot(500, start)
