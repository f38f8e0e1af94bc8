"""An area of an online map is fetched when asked: a real web map whose tiles lie in a folder."""

import math
import re
from pathlib import Path

import pytest
from collections_page import collected, drop, mime, rows
from osgeo import gdal
from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsRasterLayer,
    QgsRectangle,
)
from qgis.PyQt.QtCore import QUrl
from qgis.PyQt.QtGui import QColor, QImage

from rsfm_qgis.gui.imagery.sources import from_layers


@pytest.fixture
def online_map(tmp_path, workspace):
    """A web map of 256 px tiles of one colour, whose tiles lie in a folder, and a canvas that shows some of it."""
    zoom = 10

    def make(tiles_exist=True):
        west, north, side = 0.0, 20037508.342789244, 2 * 20037508.342789244 / 2**zoom
        column, row = 2 ** (zoom - 1), 300
        if tiles_exist:
            for x in range(column, column + 2):
                (tmp_path / "tiles" / str(zoom) / str(x)).mkdir(parents=True)
                for y in range(row, row + 2):
                    image = QImage(256, 256, QImage.Format.Format_RGB32)
                    image.fill(QColor(10 * (x - column) + 100, 50 * (y - row) + 20, 7))
                    image.save(str(tmp_path / "tiles" / str(zoom) / str(x) / f"{y}.png"))
        address = QUrl.fromLocalFile(str(tmp_path / "tiles")).toString()
        source = f"type=xyz&url={address}/{{z}}/{{x}}/{{y}}.png&zmin={zoom}&zmax={zoom}"
        layer = QgsRasterLayer(source, "my/map", "wms")
        assert layer.isValid()
        top = north - row * side
        extent = QgsRectangle(west + side / 2, top - side * 1.5, west + side * 1.5, top - side / 2)
        workspace.canvas.resize(256, 256)
        workspace.canvas.setDestinationCrs(QgsCoordinateReferenceSystem("EPSG:3857"))
        workspace.canvas.setExtent(extent)
        workspace.project.addMapLayer(layer)
        return layer

    return make


def test_area_of_an_online_map_is_fetched_when_asked_and_added(page, online_map, workspace, wait):
    layer = online_map()
    drop(page, mime(workspace.project, [layer]))
    page.keeper.finish()
    panel = page.parts.fetch_panel
    assert not panel.isHidden()
    assert page.keeper.entries == []
    panel.pixel.setValue(panel.grid()[0].width() / 64)
    assert panel.size.text().startswith("64 \u00d7 ")
    panel_height = panel.grid()[2]
    metres = float(re.search(r"pixels of (\S+) m", panel.size.text())[1])
    assert metres == pytest.approx(panel.pixel.value() * math.cos(math.radians(60.0)), rel=0.05)
    panel.fetch_button.click()
    wait(lambda: page.keeper.entries)
    collected(page, wait)
    ((name, facts, date, *_),) = rows(page)
    assert (name, date) == ("my-map", "no date")
    assert facts.startswith("3 bands")
    fetched = gdal.Open(page.keeper.entries[0]["path"])
    red, green = fetched.GetRasterBand(1).ReadAsArray(), fetched.GetRasterBand(2).ReadAsArray()
    assert red.shape == (panel_height, 64)
    corners = [(red[row, column], green[row, column]) for row in (0, -1) for column in (0, -1)]
    assert corners == [(100, 20), (110, 20), (100, 70), (110, 70)]
    assert panel.isHidden()
    assert not list(Path(page.keeper.entries[0]["path"]).parent.glob("*.partial.tif"))


def test_online_map_of_which_nothing_comes_is_said_and_leaves_no_file(page, online_map, workspace, wait, folder):
    layer = online_map(tiles_exist=False)
    warned = []
    page.warned.connect(warned.append)
    page.add(from_layers([layer]))
    page.parts.fetch_panel.fetch_button.click()
    wait(lambda: warned)
    assert "my/map" in warned[0]
    assert page.keeper.entries == []
    assert not list(folder.parent.rglob("*.tif"))


def test_too_large_an_area_is_refused_before_anything_is_asked_for(page, online_map):
    page.add(from_layers([online_map()]))
    panel = page.parts.fetch_panel
    panel.pixel.setValue(0.1)
    assert not panel.fetch_button.isEnabled()
    assert "too many" in panel.size.text()
    panel.close_button.click()
    assert panel.isHidden()
