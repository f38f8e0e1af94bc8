"""A real off-screen QGIS, a real backend process, and small rasters made in the test's own folder."""

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
os.environ.setdefault("RSFM_PYTHON", str(ROOT / "backend" / ".venv" / "bin" / "python"))
os.environ["OMP_NUM_THREADS"] = "1"
OWN_DATA = tempfile.TemporaryDirectory(prefix="rsfm-test-data-")
os.environ["RSFM_DATA"] = OWN_DATA.name  # a queue of devices of its own
os.environ["RSFM_KEEP_AWAKE"] = "no"
sys.path.insert(0, str(ROOT))

from collections_page import LOAD, WRITE, Backend  # noqa: E402
from osgeo import gdal, ogr, osr  # noqa: E402
from qgis.core import QgsProject  # noqa: E402
from qgis.gui import QgsLayerTreeView, QgsMapCanvas  # noqa: E402
from qgis.PyQt.QtCore import QEventLoop, QTimer  # noqa: E402

from rsfm_qgis import settings  # noqa: E402
from rsfm_qgis.client import BackendClient  # noqa: E402
from rsfm_qgis.collection_list import CollectionList  # noqa: E402
from rsfm_qgis.gui.editor import Workspace  # noqa: E402
from rsfm_qgis.gui.imagery.page import ImageryPage  # noqa: E402
from rsfm_qgis.runs import RunList  # noqa: E402

gdal.UseExceptions()
ORIGIN, PIXEL = (500000.0, 5100000.0), 10.0


@pytest.fixture
def project(qgis_app: Any, tmp_path: Path) -> Iterator[QgsProject]:
    """An empty project whose runs go to the test's own folder."""
    settings.write(settings.RUNS_FOLDER, str(tmp_path / "runs"))
    made = QgsProject.instance()
    made.clear()
    yield made
    made.clear()
    settings.write(settings.RUNS_FOLDER, "")


@pytest.fixture
def workspace(project: QgsProject) -> Iterator[Workspace]:
    """A project, a canvas, a client that has not started a server, and its runs."""
    client = BackendClient()
    canvas = QgsMapCanvas()
    made = Workspace(project, canvas, client, RunList(client, project), CollectionList(project), QgsLayerTreeView())
    yield made
    made.runs.watch(False)
    client.close()
    canvas.deleteLater()


@pytest.fixture
def wait() -> Callable[..., None]:
    """Let QGIS work until something is true."""
    return wait_until


def wait_until(is_true: Callable[[], bool], seconds: float = 120) -> None:
    loop = QEventLoop()
    clock = QTimer()
    clock.timeout.connect(lambda: loop.quit() if is_true() else None)
    clock.start(20)
    QTimer.singleShot(int(seconds * 1000), loop.quit)
    if not is_true():
        loop.exec()
    clock.stop()
    assert is_true(), f"not true within {seconds} s"


@pytest.fixture
def make_raster(tmp_path: Path) -> Callable[..., Path]:
    """Write pixels_CHW as a GeoTIFF of 10 m pixels in UTM 33."""

    def make(pixels_CHW: Any, name: str = "raster.tif", nodata: float | None = None, scale: float = 1) -> Path:
        pixels_CHW = np.asarray(pixels_CHW)
        types = {"uint8": gdal.GDT_Byte, "uint16": gdal.GDT_UInt16, "float32": gdal.GDT_Float32}
        count, height, width = pixels_CHW.shape
        path = tmp_path / name
        dataset = gdal.GetDriverByName("GTiff").Create(str(path), width, height, count, types[str(pixels_CHW.dtype)])
        dataset.SetGeoTransform((ORIGIN[0], PIXEL, 0, ORIGIN[1], 0, -PIXEL))
        dataset.SetProjection(_crs().ExportToWkt())
        for band in range(count):
            dataset.GetRasterBand(band + 1).WriteArray(pixels_CHW[band])
            dataset.GetRasterBand(band + 1).SetScale(scale)
            if nodata is not None:
                dataset.GetRasterBand(band + 1).SetNoDataValue(nodata)
        dataset.FlushCache()
        return path

    return make


@pytest.fixture
def make_polygons(tmp_path: Path) -> Callable[..., Path]:
    """Write squares with an attribute, given as (left, top, side) in pixels and its value; None is NULL."""

    def make(squares: list[tuple[int, int, int, Any]], field: str = "class", name: str = "polygons.gpkg") -> Path:
        path = tmp_path / name
        dataset = ogr.GetDriverByName("GPKG").CreateDataSource(str(path))
        layer = dataset.CreateLayer(path.stem, _crs(), ogr.wkbPolygon)
        layer.CreateField(ogr.FieldDefn(field, ogr.OFTString))
        for left, top, side, value in squares:
            west, north = ORIGIN[0] + left * PIXEL, ORIGIN[1] - top * PIXEL
            east, south = west + side * PIXEL, north - side * PIXEL
            feature = ogr.Feature(layer.GetLayerDefn())
            if value is not None:
                feature.SetField(field, str(value))
            ring = f"{west} {north}, {east} {north}, {east} {south}, {west} {south}, {west} {north}"
            feature.SetGeometry(ogr.CreateGeometryFromWkt(f"POLYGON (({ring}))"))
            layer.CreateFeature(feature)
        return path

    return make


@pytest.fixture(scope="module")
def write():
    backend = Backend(WRITE)
    yield lambda path, collection: backend.ask(json.dumps([str(path), collection]))
    backend.process.communicate()


@pytest.fixture(scope="module")
def loader():
    backend = Backend(LOAD)
    yield backend
    backend.process.communicate()


@pytest.fixture
def load(page, loader):
    """Load a collection in the backend, once the page has written it."""

    def ask(path):
        page.keeper.finish()
        return json.loads(loader.ask(str(path)))

    return ask


@pytest.fixture
def folder(project, tmp_path):
    """The folder of the collections of a saved project."""
    project.write(str(tmp_path / "project.qgz"))
    made = tmp_path / "rsfm" / "collections"
    made.mkdir(parents=True)
    return made


@pytest.fixture
def page(folder, workspace):
    made = ImageryPage(workspace)
    made.parts.show()
    yield made
    made.keeper.finish()
    made.deleteLater()


@pytest.fixture(scope="session", autouse=True)
def _connected_at_the_end(qgis_app: Any) -> Iterator[None]:
    """Renew the connection that pytest-qgis takes back at the end: PyQt loses it in some long sessions."""
    yield
    QgsProject.instance().legendLayersAdded.connect(qgis_app.processEvents)


def _crs() -> Any:
    crs = osr.SpatialReference()
    crs.ImportFromEPSG(32633)
    return crs
