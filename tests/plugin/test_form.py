"""Forms drawn from the schema: what they show is what the backend takes."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsFeature,
    QgsGeometry,
    QgsRasterLayer,
    QgsRectangle,
    QgsVectorLayer,
)
from qgis.gui import QgsCollapsibleGroupBox

from rsfm_qgis import schema
from rsfm_qgis.gui.editor import InputError
from rsfm_qgis.gui.editors.list import read_list, write_list
from rsfm_qgis.gui.form import Form
from rsfm_qgis.gui.job_panel import JobPanel

DATA = {"raster": "a.tif", "rasters": ["a.tif"], "vector": "labels.gpkg", "model": "m.safetensors"}


@pytest.fixture(scope="module")
def validate():
    """Ask the real backend whether it takes values, and what it makes of them."""
    command = [os.environ["RSFM_PYTHON"], "-E", "-s", str(Path(__file__).parent / "validate.py")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(job, values):
        process.stdin.write(json.dumps({"job": job, "values": values}) + "\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())

    yield ask
    process.communicate()


NEEDED = {"evaluate": {"labels"}}
"""What a job needs of several that each may be empty."""


def required(fields, job=""):
    """Values for the fields that have no default: the file of the kind, or any name."""
    asked = [field for field in fields if field.required or field.name in NEEDED.get(job, ())]
    return {field.name: DATA.get(field.kind, "weights.pth") for field in asked}


@pytest.mark.parametrize("job", schema.jobs())
def test_fresh_form_gives_the_defaults_of_the_backend(job, workspace, validate):
    fields = schema.jobs()[job].fields
    form = Form(fields, workspace)
    form.set_values(required(fields, job))
    shown = validate(job, form.values())
    assert shown == validate(job, required(fields, job))
    assert "config" in shown


@pytest.mark.parametrize("job", schema.jobs())
def test_values_survive_the_way_through_another_form(job, workspace):
    fields = schema.jobs()[job].fields
    first, second = Form(fields, workspace), Form(fields, workspace)
    first.set_values(
        {**required(fields), **{field.name: _other(field) for field in fields if _other(field) is not None}}
    )
    values = first.values()
    assert values != second.values()
    second.set_values(values)
    assert second.values() == values


def _other(field):
    """A value that is not the default."""
    if field.kind == "number":
        return field.maximum if field.default != field.maximum else field.minimum
    if field.kind == "flag":
        return not field.default
    if field.kind == "option":
        return field.choices[-1].value
    if field.kind == "choice":
        return schema.choice_values(field, {"name": field.options[-1].name})
    return {"area": "0,1,2.5,3", "device": "cuda:0"}.get(field.kind)


@pytest.mark.parametrize(
    ("job", "preset"), [(job.name, preset.name) for job in schema.jobs().values() for preset in job.presets]
)
def test_preset_shown_is_the_preset_of_the_backend(job, preset, workspace, validate):
    panel = JobPanel(schema.jobs()[job], workspace)
    index = [each.name for each in panel.job.presets].index(preset)
    panel.presets.setCurrentIndex(index)
    panel.form.set_values(required(panel.job.fields))
    expected = validate(job, {**required(panel.job.fields), **panel.job.presets[index].values})
    assert "config" in expected
    assert validate(job, panel.form.values()) == expected


def test_choosing_a_preset_takes_back_what_the_last_one_changed(workspace):
    job = schema.jobs()["pretrain"]
    panel, fresh = JobPanel(job, workspace), JobPanel(job, workspace)
    for index in [*range(panel.presets.count()), 0]:
        panel.presets.setCurrentIndex(index)
    assert panel.form.values() == fresh.form.values()


CPU = {"name": "cpu", "title": "CPU", "free": 2**33, "memory": 2**34}
GPU = {"name": "cuda:0", "title": "GPU", "free": 2**33, "memory": 2**34}


def test_form_of_pretraining_begins_with_an_evening_where_there_is_a_gpu(workspace):
    job = schema.jobs()["pretrain"]
    evening, changed, chosen, small = (JobPanel(job, workspace) for _ in range(4))
    changed.form.set_values({"window": 64})
    chosen.presets.setCurrentIndex(2)
    small.presets.activated.emit(0)  # as a click on the preset that is there already
    workspace.client.greeting = {"devices": [CPU]}
    workspace.client.hello.emit(workspace.client.greeting)
    assert [panel.presets.currentIndex() for panel in (evening, changed, chosen, small)] == [0, 0, 2, 0]
    workspace.client.greeting = {"devices": [GPU, CPU]}
    workspace.client.hello.emit(workspace.client.greeting)
    assert evening.presets.currentData().name == "moco_v2_gpu"
    assert evening.form.values()["training"]["minutes"] == 240
    assert changed.presets.currentIndex() == 0, "what the user changed is lost"
    assert changed.form.values()["window"] == 64
    assert [panel.presets.currentIndex() for panel in (chosen, small)] == [2, 0], "what the user chose is lost"
    assert JobPanel(job, workspace).presets.currentData().name == "moco_v2_gpu"


def test_zero_that_lets_the_program_choose_says_so(workspace):
    form = Form(schema.jobs()["segment"].fields, workspace)
    editor = form.editor("tiling.tile_size")
    assert editor.box.text() == "automatic"
    assert editor.value() == 0
    form.set_values({"tiling": {"tile_size": 256}})
    assert editor.box.text() == "256 px"
    assert editor.value() == 256
    form.set_values({"tiling": {"tile_size": 0}})
    assert form.values()["tiling"]["tile_size"] == 0


def test_wrong_parameter_is_marked_where_it_is_and_unfolded(workspace):
    form = Form(schema.jobs()["segment"].fields, workspace)
    assert form.mark("tiling.tile_size", "Too large.")
    assert form.first_mark().text() == "Too large."
    group = form.editor("tiling")
    assert isinstance(group, QgsCollapsibleGroupBox)
    assert not group.isCollapsed()
    form.clear_marks()
    assert form.first_mark() is None


def test_parameter_of_an_option_is_marked_with_or_without_the_name_of_the_option(workspace):
    form = Form(schema.jobs()["pretrain"].fields, workspace)
    chosen = form.values()["method"]
    field = next(name for name in chosen if name != "name")
    for path in (f"method.{field}", f"method.{chosen['name']}.{field}"):
        form.clear_marks()
        assert form.mark(path, "No.")
        assert form.first_mark().text() == "No."


def test_mark_of_an_unknown_parameter_is_refused(workspace):
    assert not Form(schema.jobs()["segment"].fields, workspace).mark("nothing", "No.")


def test_run_with_nothing_chosen_marks_the_first_required_parameter_and_starts_nothing(workspace):
    panel = JobPanel(schema.jobs()["segment"], workspace)
    started = []
    panel.wants_run.connect(lambda *run: started.append(run))
    panel.run_button.click()
    assert not started
    assert "raster" in panel.form.first_mark().text()
    assert panel.run_button.isEnabled()


def test_class_field_follows_the_polygons(workspace, make_polygons):
    layers = [
        QgsVectorLayer(str(make_polygons([(0, 0, 3, "a")], field, f"{field}.gpkg")), field)
        for field in ("crop", "class")
    ]
    workspace.project.addMapLayers(layers)
    form = Form(schema.jobs()["finetune"].fields, workspace)
    form.set_values({"labels": layers[0].source()})
    assert form.editor("class_field").combo.currentField() in {"crop", "fid"}
    form.set_values({"labels": layers[1].source()})
    assert form.values()["class_field"] == "class"


def test_polygons_with_unsaved_edits_are_given_with_the_edits(workspace, make_polygons):
    layer = QgsVectorLayer(str(make_polygons([(0, 0, 3, "a"), (5, 5, 3, "b")])), "labels")
    workspace.project.addMapLayer(layer)
    form = Form(schema.jobs()["finetune"].fields, workspace)
    form.set_values({"labels": layer.source()})
    assert form.values()["labels"] == layer.source()
    layer.startEditing()
    layer.deleteFeature(1)
    given = form.values()["labels"]
    assert given != layer.source()
    assert QgsVectorLayer(given).featureCount() == 1
    layer.rollBack()


def test_visible_area_is_told_in_the_crs_of_the_raster(workspace, make_raster):
    layer = QgsRasterLayer(str(make_raster(np.zeros((1, 8, 8), "uint8"))), "zone 33")
    workspace.project.addMapLayer(layer)
    workspace.canvas.setDestinationCrs(QgsCoordinateReferenceSystem("EPSG:4326"))
    workspace.canvas.setExtent(QgsRectangle(15.0, 46.0, 15.001, 46.001))
    form = Form(schema.jobs()["segment"].fields, workspace)
    form.set_values({"raster": layer.source()})
    form.editor("area").combo.setCurrentIndex(1)
    west, south, east, north = map(float, form.values()["area"].split(","))
    assert west == pytest.approx(500000, abs=150)  # 15° east is the middle of zone 33
    assert east - west == pytest.approx(77, abs=80)
    assert north - south == pytest.approx(111, abs=80)
    assert 5.09e6 < south < north < 5.1e6


def test_numbers_are_shown_without_digits_they_do_not_have(workspace):
    form = Form(schema.jobs()["pretrain"].fields, workspace)
    assert form.editor("training.learning_rate").box.text() == "0.001"
    assert form.editor("training.minutes").box.text().endswith(" min")


@pytest.mark.parametrize("values", [[], [1, 2.5], ["a", "b"], [0.2, 1]])
def test_list_is_read_as_it_was_written(values):
    assert read_list(write_list(values)) == values


def test_polygons_of_a_layer_are_told_in_the_crs_of_the_raster(workspace, make_raster):
    raster = QgsRasterLayer(str(make_raster(np.zeros((1, 8, 8), "uint8"))), "zone 33")
    fields = QgsVectorLayer("PolygonZ?crs=EPSG:4326&field=name:string", "fields", "memory")
    first, second = QgsFeature(), QgsFeature()
    first.setGeometry(QgsGeometry.fromWkt("PolygonZ ((15 46 1, 15.001 46 1, 15.001 46.001 1, 15 46 1))"))
    second.setGeometry(QgsGeometry.fromWkt("PolygonZ ((16 46 1, 16.001 46 1, 16.001 46.001 1, 16 46 1))"))
    fields.dataProvider().addFeatures([first, second])
    workspace.project.addMapLayers([raster, fields])
    form = Form(schema.jobs()["segment"].fields, workspace)
    form.set_values({"raster": raster.source()})
    editor = form.editor("area")
    editor.combo.setCurrentIndex(editor.combo.findText("Polygons of a layer"))
    found = QgsGeometry.fromWkt(form.values()["area"])
    assert found.constGet().numGeometries() == 2
    assert found.boundingBox().xMinimum() == pytest.approx(500000, abs=1)  # 15° east is the middle of zone 33
    editor.selected.setChecked(True)
    with pytest.raises(InputError, match="No polygon is selected"):
        form.values()
    fields.selectByIds([2])
    assert QgsGeometry.fromWkt(form.values()["area"]).boundingBox().xMinimum() > 570000
    json.dumps(form.values())


def test_jobs_that_take_a_rectangle_only_offer_no_polygons(workspace):
    forms = {job: Form(schema.jobs()[job].fields, workspace) for job in ("pretrain", "detect_change", "segment")}
    offers = {job: form.editor("area").combo.findText("Polygons of a layer") >= 0 for job, form in forms.items()}
    assert offers == {"pretrain": False, "detect_change": False, "segment": True}


@pytest.mark.parametrize("job", schema.jobs())
def test_what_may_be_empty_is_empty_until_something_is_chosen(workspace, make_raster, make_polygons, job):
    raster = QgsRasterLayer(str(make_raster(np.zeros((1, 8, 8), "uint8"))), "image")
    labels = QgsVectorLayer(str(make_polygons([(0, 0, 2, 1)])), "labels")
    workspace.project.addMapLayers([raster, labels])
    form = Form(schema.jobs()[job].fields, workspace)
    optional = [field.name for field in form.fields if field.optional and field.kind in {"raster", "vector"}]
    assert {name: form.editor(name).value() for name in optional} == dict.fromkeys(optional)
    workspace.project.addMapLayer(QgsRasterLayer(raster.source(), "another"))
    assert {name: form.editor(name).value() for name in optional} == dict.fromkeys(optional)
