"""Rasters come into a collection: dropped, chosen, selected; the real backend looks at them."""

from pathlib import Path

import numpy as np
import pytest
from collections_page import collected, drop, entry, mime, rows
from qgis.core import (
    QgsDateTimeRange,
    QgsLayerTreeModel,
    QgsRasterLayer,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QDate, QDateTime, QMimeData, QTime, QTimeZone, QUrl

from rsfm_qgis.gui.imagery.model import DATE, ROLE
from rsfm_qgis.gui.imagery.sources import from_files

SHARED = Path(__file__).parents[3] / "shared" / "data"


def test_dropped_layers_are_shown_at_once_and_then_with_what_is_in_them(page, make_raster, workspace, wait, load):
    first = make_raster(np.arange(256, dtype="uint16").reshape(4, 8, 8), "scene_20150711.tif")
    second = make_raster(np.arange(256, dtype="uint16").reshape(4, 8, 8), "undated.tif", nodata=0)
    layers = [QgsRasterLayer(str(first), "one"), QgsRasterLayer(str(second), "two")]
    begin = QDateTime(QDate(2016, 3, 4), QTime(9, 30), QTimeZone.utc())
    layers[1].temporalProperties().setIsActive(True)
    layers[1].temporalProperties().setFixedTemporalRange(QgsDateTimeRange(begin, begin))
    workspace.project.addMapLayers(layers)
    drop(page, mime(workspace.project, layers))
    assert [row[:2] for row in rows(page)] == [
        ("scene_20150711", "not looked at yet"),
        ("undated", "not looked at yet"),
    ]
    collected(page, wait)
    assert rows(page) == [
        ("scene_20150711", "4 bands \u00b7 10 m", "2015-07-11", "name", "Imagery"),
        ("undated", "4 bands \u00b7 10 m \u00b7 2 % nodata", "2016-03-04", "layer", "Imagery"),
    ]
    found = load(page.keeper.path)["entries"]
    assert [each["date"] for each in found] == ["2015-07-11T10:00:00+00:00", "2016-03-04T09:30:00+00:00"]
    assert [each["hour_known"] for each in found] == [False, True]


def test_unusable_raster_shows_its_sentence_and_the_others_are_used(page, make_raster, tmp_path, wait):
    good = make_raster(np.arange(192, dtype="uint8").reshape(3, 8, 8), "good.tif")
    bad = tmp_path / "bad.tif"
    bad.write_bytes(b"II*\0 this is no raster")
    page.add(from_files([str(bad)]))
    collected(page, wait)
    assert "bad.tif" in rows(page)[0][1]
    page.add(from_files([str(good), str(bad)]))
    collected(page, wait)
    assert [row[0] for row in rows(page)] == ["bad", "good"]
    assert rows(page)[1][1] == "3 bands \u00b7 10 m"
    assert rows(page)[0][1] in page.parts.warnings.text()
    assert "already" in page.parts.status.text()


def test_what_the_user_said_survives_a_second_look(page, make_raster, wait, load):
    path = make_raster(np.arange(192, dtype="uint8").reshape(3, 8, 8), "scene_20150711.tif")
    page.add(from_files([str(path)]))
    page.keeper.finish()
    assert page.parts.model.setData(page.parts.model.index(0, DATE), "2014-01-02")
    collected(page, wait)
    page.parts.model.setData(page.parts.model.index(0, ROLE), "other")
    page.keeper.look_again([str(path)])
    collected(page, wait)
    found = load(page.keeper.path)["entries"][0]
    assert (found["date"], found["date_source"]) == ("2014-01-02T10:00:00+00:00", "table")
    assert (found["role"], found["width"]) == ("other", 8)


def test_raster_removed_while_it_is_looked_at_does_not_come_back(page, make_raster, wait, load):
    paths = [make_raster(np.full((3, 8, 8), 7, "uint8"), name) for name in ("a.tif", "b.tif")]
    page.add(from_files(map(str, paths)))
    page.keeper.remove([str(paths[0])])
    collected(page, wait)
    assert [row[0] for row in rows(page)] == ["b"]
    assert [Path(each["path"]).name for each in load(page.keeper.path)["entries"]] == ["b.tif"]


def test_folder_is_searched_by_the_backend(page, make_raster, tmp_path, wait):
    folder = tmp_path / "scenes" / "deep"
    folder.mkdir(parents=True)
    made = make_raster(np.arange(192, dtype="uint8").reshape(3, 8, 8), "a_20200102.tif")
    made.rename(folder / "a_20200102.tif")
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(tmp_path / "scenes"))])
    drop(page, data)
    collected(page, wait)
    assert rows(page) == [("a_20200102", "3 bands \u00b7 10 m", "2020-01-02", "name", "Imagery")]


def test_bands_in_a_file_each_are_one_raster_that_outlives_the_run(page, make_raster, tmp_path, wait, folder):
    scene = tmp_path / "S2A_20200102"
    scene.mkdir()
    for band in ("B02", "B03", "B04"):
        make_raster(np.arange(64, dtype="uint16").reshape(1, 8, 8), f"{band}.tif").rename(scene / f"{band}.tif")
    page.add(from_files([str(scene)]))
    collected(page, wait)
    ((_, facts, *_),) = rows(page)
    assert facts.startswith("3 bands")
    assert Path(page.keeper.entries[0]["path"]).is_relative_to(folder)
    assert QgsRasterLayer(page.keeper.entries[0]["path"]).bandCount() == 3
    assert not list((folder / "found").glob("*.json"))
    assert page.parts.combo.count() == 1


def test_collections_are_added_as_what_they_hold(page, make_raster, tmp_path, wait, write):
    raster = make_raster(np.full((3, 8, 8), 7, "uint8"), "a.tif")
    other = tmp_path / "other.collection.json"
    write(other, {"name": "other", "entries": [entry(raster, date="2015-01-01T10:00:00+00:00", date_source="table")]})
    page.add(from_files([str(other)]))
    collected(page, wait)
    assert rows(page) == [("a", "3 bands \u00b7 10 m", "2015-01-01", "yours", "Imagery")]


def test_selected_layers_are_added_and_vector_layers_are_named(page, make_raster, make_polygons, workspace, wait):
    raster = QgsRasterLayer(str(make_raster(np.full((3, 8, 8), 7, "uint8"), "a.tif")), "raster")
    polygons = QgsVectorLayer(str(make_polygons([(0, 0, 3, "a")])), "fields")
    workspace.project.addMapLayers([raster, polygons])
    tree = workspace.layer_tree
    model = QgsLayerTreeModel(workspace.project.layerTreeRoot())
    tree.setModel(model)
    page.parts.add_layers.click()
    assert "Select raster layers" in page.parts.status.text()
    tree.selectAll()
    page.parts.add_layers.click()
    assert "fields" in page.parts.status.text()
    collected(page, wait)
    assert [row[0] for row in rows(page)] == ["a"]


def test_collection_stays_the_project_s_when_it_is_opened_again(page, workspace, tmp_path, folder):
    workspace.collections.create("first")
    workspace.collections.create("second")
    workspace.collections.choose(str(folder / "first.collection.json"))
    workspace.project.write()
    name = workspace.project.fileName()
    workspace.project.clear()
    workspace.project.read(name)
    assert page.parts.combo.currentText() == "first"
    assert page.keeper.path == str(folder / "first.collection.json")


@pytest.mark.parametrize(
    ("layers", "dates"),
    [
        ("s2_slovenia/S2_L1C_20150711.tif s2_slovenia/S2_L1C_20170220.tif", ["2015-07-11", "2017-02-20"]),
        ("naip_dakota/naip_west_20090818.tif", ["2009-08-18"]),
    ],
)
def test_real_rasters_show_their_dates_and_bands(page, workspace, wait, layers, dates):
    files = [SHARED / name for name in layers.split()]
    if not all(file.is_file() for file in files):
        pytest.skip(f"{files[0].parent} is not there")
    made = [QgsRasterLayer(str(file), file.stem) for file in files]
    workspace.project.addMapLayers(made)
    drop(page, mime(workspace.project, made))
    collected(page, wait)
    assert [row[2] for row in rows(page)] == dates
    bands = made[0].bandCount()
    assert all(row[1].startswith(f"{bands} bands") for row in rows(page))
    assert len(page.parts.bands.text().split()) == bands
