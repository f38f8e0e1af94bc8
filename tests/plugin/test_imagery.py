"""The page Imagery in a real QGIS with the real backend: what is dropped, what is shown, what is kept."""

import json
import math
import os
import re
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from osgeo import gdal
from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsDateTimeRange,
    QgsLayerTreeModel,
    QgsRasterLayer,
    QgsRectangle,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QDate, QDateTime, QMimeData, QPoint, QPointF, Qt, QTime, QTimeZone, QUrl
from qgis.PyQt.QtGui import QColor, QDropEvent, QImage

from rsfm_qgis import schema
from rsfm_qgis.gui.form import Form
from rsfm_qgis.gui.imagery.model import DATE, PATH, RASTER, ROLE, SECOND_LINE
from rsfm_qgis.gui.imagery.page import ImageryPage
from rsfm_qgis.gui.imagery.sources import from_files, from_layers
from rsfm_qgis.gui.job_panel import JobPanel

SHARED = Path(__file__).parents[3] / "shared" / "data"
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


def test_table_shows_what_the_backend_wrote(page, folder, write, workspace):
    mask = str(folder / "mask.tif")
    entries = [
        entry(folder / "a_20150711.tif", date="2015-07-11T10:00:00Z", date_source="name", valid=0.96),
        entry(folder / "b.tif", date="2016-01-02T09:41:30Z", date_source="metadata", hour_known=True, mask=mask),
        entry(folder / "dem.tif", role="other", used=False),
        {"path": "c.tif", "problem": "It has no coordinate reference system."},
    ]
    write(folder / "fields.collection.json", {"name": "fields", "entries": entries})
    show(page)
    assert page.parts.combo.currentText() == "fields"
    assert rows(page) == [
        ("a_20150711", "3 bands \u00b7 10 m \u00b7 4 % nodata", "2015-07-11", "name", "Imagery"),
        ("b", "3 bands \u00b7 10 m \u00b7 masked", "2016-01-02", "metadata", "Imagery"),
        ("dem", "3 bands \u00b7 10 m", "no date", "", "Other"),
        ("c", "It has no coordinate reference system.", "no date", "", "Imagery"),
    ]
    assert page.parts.bands.text() == "B2 B3 B4"
    assert page.parts.dates.text() == "2015-07-11 \u2026 2016-01-02"
    assert "c cannot be used: It has no coordinate reference system." in page.parts.warnings.text()
    assert page.parts.model.index(3, RASTER).data(PATH) == str(folder / "c.tif")


def test_typed_date_is_kept_in_the_file_and_after_reopening(page, folder, write, load, workspace):
    path = folder / "fields.collection.json"
    write(
        path, {"name": "fields", "entries": [entry(folder / "a.tif", date="2015-01-01T10:00:00Z", date_source="name")]}
    )
    show(page)
    edit(page, 0, DATE, "2015-07-11 10:23")
    loaded = load(path)["entries"][0]
    assert (loaded["date"], loaded["date_source"]) == ("2015-07-11T10:23:00+00:00", "table")
    assert loaded["hour_known"] is True
    assert loaded["footprint"] == [15.0, 46.0, 15.001, 46.001]
    again = ImageryPage(workspace)
    again.parts.show()
    assert rows(again)[0][2:4] == ("2015-07-11", "yours")


def test_wrong_date_is_refused_with_a_sentence_and_changes_nothing(page, folder, write, load, workspace):
    path = folder / "fields.collection.json"
    write(path, {"name": "fields", "entries": [entry(folder / "a.tif")]})
    show(page)
    for text in ("2015-13-01", "2015-02-30", "July", "201571"):
        edit(page, 0, DATE, text)
        assert text in page.parts.status.text()
    assert load(path)["entries"][0]["date_source"] == "none"


def test_role_and_use_are_kept_in_the_file(page, folder, write, load, workspace):
    path = folder / "fields.collection.json"
    write(path, {"name": "fields", "entries": [entry(folder / "a.tif"), entry(folder / "b.tif")]})
    show(page)
    model = page.parts.model
    model.setData(model.index(0, ROLE), "labels")
    model.setData(model.index(1, RASTER), Qt.CheckState.Unchecked, Qt.ItemDataRole.CheckStateRole)
    assert [(each["role"], each["used"]) for each in load(path)["entries"]] == [("labels", True), ("imagery", False)]


def test_removed_rasters_come_back_where_they_were(page, folder, write, load, workspace):
    path = folder / "fields.collection.json"
    names = ["a.tif", "b.tif", "c.tif", "d.tif"]
    write(path, {"name": "fields", "entries": [entry(folder / name) for name in names]})
    show(page)
    table = page.parts.table
    table.selectAll()
    table.selectionModel().select(
        page.parts.model.index(2, 0),
        table.selectionModel().SelectionFlag.Deselect | table.selectionModel().SelectionFlag.Rows,
    )
    page.parts.remove_button.click()
    page.keeper.finish()
    assert [Path(each["path"]).name for each in load(path)["entries"]] == ["c.tif"]
    page.parts.undo_button.click()
    assert [Path(each["path"]).name for each in load(path)["entries"]] == names


def test_bands_are_named_for_all_rasters_of_a_kind(page, folder, write, load, workspace):
    path = folder / "fields.collection.json"
    other = entry(folder / "c.tif")
    other["bands"] = other["bands"][:1]
    write(path, {"name": "fields", "entries": [entry(folder / "a.tif"), entry(folder / "b.tif"), other]})
    show(page)
    page.parts.change_bands.setChecked(True)
    panel = page.parts.bands_panel
    panel.table.item(0, 0).setText("B3")
    panel.apply_button.click()
    page.keeper.finish()
    assert "another band" in panel.said.text()
    panel.table.item(0, 0).setText("blue")
    panel.table.item(0, 1).setText("490")
    panel.apply_button.click()
    named = [each["bands"][0] for each in load(path)["entries"]]
    blue = {"number": 1, "name": "blue", "wavelength_nm": 490.0}
    assert named == [blue, blue, {"number": 1, "name": "B2", "wavelength_nm": None}]
    page.keeper.finish()
    assert "No band is common" in page.parts.warnings.text()


def test_dates_of_names_are_checked_and_confirmed(page, folder, write, load, workspace):
    path = folder / "fields.collection.json"
    dated = {"date": "2015-01-01T10:00:00Z"}
    entries = [
        entry(folder / "a.tif", date_source="name", **dated),
        entry(folder / "b.tif", date_source="metadata", **dated),
        entry(folder / "c.tif"),
    ]
    write(path, {"name": "fields", "entries": entries})
    show(page)
    page.parts.check_dates.setChecked(True)
    assert [row[0] for row in rows(page)] == ["a", "c"]
    page.parts.dates_right.click()
    assert [each["date_source"] for each in load(path)["entries"]] == ["table", "metadata", "none"]


def test_change_by_another_program_is_not_written_over(page, folder, write, load, workspace):
    path = folder / "fields.collection.json"
    write(path, {"name": "fields", "entries": [entry(folder / "a.tif")]})
    show(page)
    write(path, {"name": "fields", "entries": [entry(folder / "a.tif"), entry(folder / "b.tif")]})
    warned = []
    page.warned.connect(warned.append)
    model = page.parts.model
    model.setData(model.index(0, ROLE), "labels")
    page.keeper.finish()
    assert "another program" in warned[0]
    assert [each["role"] for each in load(path)["entries"]] == ["imagery", "imagery"]
    assert model.rowCount() == 2
    model.setData(model.index(0, ROLE), "labels")
    assert [each["role"] for each in load(path)["entries"]] == ["labels", "imagery"]


@pytest.mark.parametrize("text", ["", "{}", '{"entries": [', '{"format": "x", "entries": []}', '{"entries": [1]}'])
def test_file_that_is_no_collection_is_said_and_left_as_it_is(page, folder, workspace, text):
    path = folder / "broken.collection.json"
    path.write_text(text)
    warned = []
    page.warned.connect(warned.append)
    show(page)
    assert "broken.collection.json" in warned[0]
    page.add(from_files(["a.tif"]))
    page.keeper.finish()
    assert len(warned) == 2
    assert path.read_text() == text


def test_collection_is_one_item_of_pretraining_and_its_path_is_the_value(folder, workspace, write, make_raster):
    layer = QgsRasterLayer(str(make_raster(np.zeros((1, 8, 8), "uint8"))), "layer")
    workspace.project.addMapLayer(layer)
    path = folder / "fields 2015.collection.json"
    write(path, {"name": "fields 2015", "entries": [entry(folder / "a.tif")]})
    panel = JobPanel(schema.jobs()["pretrain"], workspace)
    started = []
    panel.wants_run.connect(lambda *run: started.append(run))
    editor = panel.form.editor("rasters")
    assert [editor.list.item(row).text() for row in range(editor.list.count())] == ["fields 2015", "layer"]
    panel.run_button.click()
    ((job, config, title),) = started
    assert (job, config["rasters"]) == ("pretrain", [str(path)])
    assert title.endswith("fields 2015")


def test_what_was_checked_by_hand_stays_when_a_collection_appears(folder, workspace, write, make_raster):
    layer = QgsRasterLayer(str(make_raster(np.zeros((1, 8, 8), "uint8"))), "layer")
    workspace.project.addMapLayer(layer)
    form = Form(schema.jobs()["pretrain"].fields, workspace)
    assert form.editor("rasters").value() == [layer.source()]
    form.editor("rasters").list.item(0).setCheckState(Qt.CheckState.Unchecked)
    form.editor("rasters").list.item(0).setCheckState(Qt.CheckState.Checked)
    workspace.collections.create("fields")
    assert form.editor("rasters").value() == [layer.source()]


def collected(page, wait):
    """Wait until the backend has looked at everything."""
    keeper = page.keeper
    wait(lambda: not keeper.gathering.is_busy(keeper.path) and not keeper.slices.is_busy(), 60)


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


def test_ten_thousand_rasters_never_stop_qgis(page, folder, write, load, workspace, wait):
    names = [str(folder / f"{number}.tif") for number in range(10000)]
    dated = {"date": "2015-01-01T10:00:00Z", "date_source": "name"}
    path = folder / "many.collection.json"
    write(path, {"name": "many", "entries": [entry(name, **dated) for name in names]})
    spent = []
    inner = page.keeper.slices._go_on

    def is_done():
        return not page.keeper.slices.is_busy()

    def timed(work):
        started = time.thread_time()
        work()
        spent.append(time.thread_time() - started)

    page.keeper.slices._timer.timeout.disconnect(inner)
    page.keeper.slices._timer.timeout.connect(lambda: timed(inner))
    timed(workspace.collections.listed.emit)
    wait(is_done)
    assert page.parts.model.rowCount() == 10000
    timed(lambda: page.parts.model.setData(page.parts.model.index(5000, ROLE), "labels"))
    wait(is_done)
    timed(lambda: page.keeper.change(names, {"used": False}))
    wait(is_done)
    timed(lambda: page.parts.table.sortByColumn(DATE, Qt.SortOrder.DescendingOrder))
    timed(lambda: page.keeper.remove(names[:5000]))
    wait(is_done)
    assert max(spent) < 0.1, sorted(spent)[-5:]
    assert {each["used"] for each in load(path)["entries"]} == {False}
    assert [each["role"] for each in load(path)["entries"]].count("labels") == 1
