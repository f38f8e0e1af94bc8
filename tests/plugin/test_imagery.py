"""The page Imagery in a real QGIS: what the table shows, what is typed into it, what is kept in the file."""

import time
from pathlib import Path

import numpy as np
import pytest
from collections_page import edit, entry, rows, show
from qgis.core import (
    QgsRasterLayer,
)
from qgis.PyQt.QtCore import Qt

from rsfm_qgis import schema
from rsfm_qgis.gui.form import Form
from rsfm_qgis.gui.imagery.model import DATE, PATH, RASTER, ROLE
from rsfm_qgis.gui.imagery.page import ImageryPage
from rsfm_qgis.gui.imagery.sources import from_files
from rsfm_qgis.gui.job_panel import JobPanel


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
    timed(page.keeper.restore)
    wait(is_done)
    assert [each["path"] for each in load(path)["entries"]] == names
    timed(lambda: page.keeper.remove(names[:5000]))
    wait(is_done)
    assert max(spent) < 0.05, sorted(spent)[-5:]
    assert {each["used"] for each in load(path)["entries"]} == {False}
    assert [each["role"] for each in load(path)["entries"]].count("labels") == 1
