"""Runs inside QGIS: loads the demo's layers, saves the project and a picture of the window, and quits."""

import json
import os
import sys
import traceback
from pathlib import Path

from qgis.core import QgsContrastEnhancement, QgsProject, QgsRasterLayer, QgsRasterMinMaxOrigin
from qgis.PyQt.QtCore import QTimer
from qgis.PyQt.QtWidgets import QDockWidget
from qgis.utils import iface

OUT = Path(os.environ["RSFM_DEMO"])
sys.path.insert(0, os.environ["RSFM_CODE"])


GROUPS = {"embed": "Embedding", "segment": "Segmentation", "detect_change": "Change"}
"""From the lowest group of layers to the highest."""


def load() -> None:
    from rsfm_qgis.layers import add_outputs

    project = QgsProject.instance()
    demo = json.loads((OUT / "layers.json").read_text(encoding="utf-8"))
    scene = QgsRasterLayer(demo["raster"], Path(demo["raster"]).stem)
    extent = scene.extent()
    show_as_seen(scene, demo["colours"])
    project.addMapLayer(scene)
    project.setCrs(scene.crs())
    for run, title in GROUPS.items():
        add_outputs(project, title, [output for output in demo["outputs"] if output["run"] == run])
    for dock in iface.mainWindow().findChildren(QDockWidget, "Browser"):
        dock.close()
    iface.mapCanvas().setExtent(extent)  # a project keeps what its canvas shows
    project.write(str(OUT / "project.qgz"))
    project.clear()
    open_again(project)
    if not iface.mapCanvas().extent().contains(extent.center()):
        raise RuntimeError("The saved project does not show the scene.")
    iface.mapCanvas().refresh()


def show_as_seen(scene: QgsRasterLayer, bands: list) -> None:
    """Show the bands that are red, green and blue, where the scene has them; QGIS takes the first three."""
    renderer = scene.renderer()
    if all(bands) and renderer.type() == "multibandcolor":
        for choose, band in zip((renderer.setRedBand, renderer.setGreenBand, renderer.setBlueBand), bands):
            choose(band)
        scene.setContrastEnhancement(
            QgsContrastEnhancement.StretchToMinimumMaximum, QgsRasterMinMaxOrigin.CumulativeCut
        )


def open_again(project: QgsProject) -> None:
    """Read the saved project, as whoever opens it does, and insist on layers that are valid and have a legend."""
    project.read(str(OUT / "project.qgz"))
    for title in GROUPS.values():
        group = project.layerTreeRoot().findGroup(title)
        for node in group.findLayers() if group is not None else []:
            layer = node.layer()
            if layer is None or not layer.isValid():
                raise RuntimeError(f"The layer '{node.name()}' of the saved project is not valid.")
            renderer = layer.renderer()
            if renderer.type() in {"paletted", "singlebandpseudocolor"} and not renderer.legendSymbologyItems():
                raise RuntimeError(f"The layer '{node.name()}' of the saved project has no legend.")
            print(f"{title}: {layer.name()}, {type(renderer).__name__}")


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
