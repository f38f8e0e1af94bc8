"""A map that is seen while it is made: it appears, grows, gives way to the finished layer, and goes with a Cancel."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from conftest import ORIGIN, PIXEL, ROOT
from qgis.core import QgsCoordinateReferenceSystem, QgsProject, QgsRasterLayer, QgsRectangle
from qgis.gui import QgsMapLayerComboBox, QgsMessageBar
from qgis.PyQt.QtWidgets import QListWidget
from test_outputs import render

from rsfm_qgis import layers, looks, preview_layers, schema, settings
from rsfm_qgis.client import BackendClient
from rsfm_qgis.collection_list import CollectionList
from rsfm_qgis.gui.editor import Workspace
from rsfm_qgis.gui.form import Form
from rsfm_qgis.gui.results import Results
from rsfm_qgis.records import Output, read_record
from rsfm_qgis.runs import RunList

SIDE = 1600
MAKE = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from tests.backend.toy_model import make_model
make_model(Path(sys.argv[3]), sys.argv[2])
"""


@pytest.fixture
def config(make_raster, tmp_path):
    """A map that takes some seconds to make."""
    noise = np.random.default_rng(0).integers(100, 3000, (3, SIDE // 10, SIDE // 10)).astype("uint16")
    raster = make_raster(np.kron(noise, np.ones((10, 10), "uint16")), "raster.tif")
    model = tmp_path / "model.safetensors"
    subprocess.run([os.environ["RSFM_PYTHON"], "-c", MAKE, str(ROOT), str(raster), str(model)], check=True)
    tiling = {"tile_size": 96, "tile_overlap": 32}
    return {"raster": str(raster), "model": str(model), "device": "cpu", "tiling": tiling}


@pytest.fixture
def results(workspace):
    """What the dock does with runs, with a canvas that shows the middle of the raster."""
    workspace.canvas.setDestinationCrs(QgsCoordinateReferenceSystem("EPSG:32633"))
    west, north, middle = ORIGIN[0], ORIGIN[1], SIDE / 2 * PIXEL
    workspace.canvas.setExtent(
        QgsRectangle(west + middle - 3000, north - middle - 3000, west + middle + 3000, north - middle + 3000)
    )
    return Results(workspace, QgsMessageBar())


def start(workspace, results, config, wait, job="segment"):
    answers = []
    workspace.runs.start(job, config, "Map", lambda *answer: answers.append(answer), looks.look(workspace))
    wait(lambda: answers)
    assert answers[0][1] is None
    folder = answers[0][0]["run"]
    results.expect(folder)
    return folder


def names(project, folder):
    group = layers.find_group(project, folder)
    return [] if group is None else [node.name() for node in group.findLayers()]


def test_map_grows_and_gives_way_to_the_finished_one(workspace, results, config, wait):
    folder = start(workspace, results, config, wait)
    seen = []

    def grows():
        small = [node.layer() for node in grown(workspace.project, folder)]
        if small and small[0].isValid():
            filled = (render(small[0])[..., 3] > 0).mean()
            if not seen or filled != seen[-1]:
                seen.append(filled)
        return not workspace.runs.get(folder).is_live

    wait(grows, 120)
    assert workspace.runs.get(folder).state == "done", workspace.runs.get(folder).error
    assert len(seen) >= 2
    assert seen == sorted(seen)
    assert 0 < seen[0] < 1
    wait(lambda: names(workspace.project, folder) == ["Classes of raster", "Confidence"])
    assert not preview_layers.find(workspace.project, folder)
    assert {preview.key.rpartition("-")[2] for preview in read_record(Path(folder)).previews} == {"view", "small"}


def test_cancel_takes_the_previews_off_the_map(workspace, results, config, wait):
    folder = start(workspace, results, config, wait)
    wait(lambda: preview_layers.find(workspace.project, folder), 60)
    workspace.runs.cancel(folder)
    wait(lambda: workspace.runs.get(folder).state == "cancelled")
    wait(lambda: layers.find_group(workspace.project, folder) is None)
    assert not workspace.project.mapLayers()


def test_preview_that_the_user_takes_off_the_map_stays_off(workspace, results, config, wait):
    folder = start(workspace, results, config, wait)
    wait(lambda: grown(workspace.project, folder), 60)
    key = grown(workspace.project, folder)[0].layer().customProperty(layers.PREVIEW_PROPERTY)
    preview_layers.remove(workspace.project, folder, key)
    told = previews_told(folder, key)

    def shown_again():
        assert not preview_layers.find(workspace.project, folder, key)
        return previews_told(folder, key) > told or not workspace.runs.get(folder).is_live

    wait(shown_again, 120)
    assert previews_told(folder, key) > told
    workspace.runs.cancel(folder)
    wait(lambda: workspace.runs.get(folder).state == "cancelled")


def test_previews_are_not_offered_as_rasters_to_work_on(workspace, results, config, wait):
    def make_forms():
        return [Form(schema.jobs()[job].fields, workspace) for job in ("pretrain", "segment")]

    def offered(form):
        listed = [box.item(row).text() for box in form.findChildren(QListWidget) for row in range(box.count())]
        combos = form.findChildren(QgsMapLayerComboBox)
        return listed + [combo.itemText(row) for combo in combos for row in range(combo.count())]

    forms = make_forms()
    folder = start(workspace, results, config, wait)
    wait(lambda: grown(workspace.project, folder), 60)
    forms += make_forms()
    previews = [node.layer() for node in preview_layers.find(workspace.project, folder)]
    assert previews
    for form in forms:
        assert not [layer.name() for layer in previews if layer.name() in offered(form)]
    workspace.runs.cancel(folder)
    wait(lambda: workspace.runs.get(folder).state == "cancelled")
    wait(lambda: layers.find_group(workspace.project, folder) is None)
    QgsProject.instance().addMapLayer(QgsRasterLayer(config["raster"], "mine"))
    for form in forms:
        assert "mine" in offered(form)


def test_finished_pictures_of_what_an_encoder_sees_are_not_offered_to_learn_from(workspace, make_raster):
    forms = [Form(schema.jobs()["pretrain"].fields, workspace)]
    picture = Output("embedding_picture", str(make_raster(np.ones((3, 8, 8), "uint8"), "step_1.tif")), "Seen", {})
    layers.add_outputs(workspace.project, "Pretrain", [picture])
    assert workspace.project.mapLayersByName("Seen")
    assert not forms[0].editor("rasters").value()
    mine = QgsRasterLayer(str(make_raster(np.ones((3, 8, 8), "uint8"), "mine.tif")), "mine")
    workspace.project.addMapLayer(mine)
    forms.append(Form(schema.jobs()["pretrain"].fields, workspace))
    for form in forms:
        editor = form.editor("rasters")
        assert [editor.list.item(row).text() for row in range(editor.list.count())] == ["mine"]
        assert editor.value() == [mine.source()]


def grown(project, folder):
    """Find the layers that show a whole map as far as it is done."""
    return [node for node in preview_layers.find(project, folder) if node.name().endswith("so far")]


def previews_told(folder, key):
    """Count how often the run has told of a preview."""
    events = [json.loads(line) for line in (Path(folder) / "events.jsonl").read_text().splitlines()]
    return sum(event["type"] == "preview" and event["key"] == key for event in events)


def test_qgis_that_was_closed_goes_on_showing_the_run(workspace, results, config, wait):
    folder = start(workspace, results, config, wait)
    wait(lambda: preview_layers.find(workspace.project, folder), 60)
    results.deleteLater()
    workspace.client.close()
    workspace.project.removeAllMapLayers()
    workspace.project.layerTreeRoot().clear()
    client = BackendClient()
    again = Workspace(workspace.project, workspace.canvas, client, RunList(client, workspace.project),
                      CollectionList(workspace.project))  # fmt: skip
    later = Results(again, QgsMessageBar())
    client.start()
    wait(lambda: again.runs.get(folder) is not None, 60)
    wait(lambda: preview_layers.find(again.project, folder) or not again.runs.get(folder).is_live, 60)
    wait(lambda: not again.runs.get(folder).is_live, 120)
    wait(lambda: names(again.project, folder) == ["Classes of raster", "Confidence"])
    assert not preview_layers.find(again.project, folder)
    client.close()
    later.deleteLater()


def test_switch_in_the_options_asks_for_no_previews(workspace, results, config, wait):
    settings.write(settings.PREVIEWS, "no")
    assert looks.look(workspace) is None
    folder = start(workspace, results, config, wait)
    settings.write(settings.PREVIEWS, "")
    wait(lambda: workspace.runs.get(folder).fraction > 0.6, 120)
    assert not read_record(Path(folder)).previews
    assert not (Path(folder) / "previews").exists()
    workspace.runs.cancel(folder)
    wait(lambda: workspace.runs.get(folder).state == "cancelled")


def test_run_of_another_project_is_not_shown(workspace, tmp_path):
    (tmp_path / looks.LOOK).write_text(json.dumps({"bounds": None, "project": "/elsewhere.qgz"}))
    assert not looks.is_looked_at(str(tmp_path), workspace.project)
    (tmp_path / looks.LOOK).write_text(json.dumps({"bounds": None, "project": workspace.project.fileName()}))
    assert looks.is_looked_at(str(tmp_path), workspace.project)


def test_each_preview_is_the_promise_of_its_output(tmp_path):
    preview = Output("classes", "", "", {}, "", str(tmp_path / "previews" / "S2" / "segmentation-small"))
    assert preview_layers.is_finished(preview, [Output("classes", f"{tmp_path}/outputs/S2/segmentation.tif", "", {})])
    assert not preview_layers.is_finished(preview, [Output("classes", f"{tmp_path}/outputs/segmentation.tif", "", {})])


def test_preview_of_a_finished_file_is_not_taken_for_its_layer(project, make_raster, tmp_path):
    path = str(make_raster(np.ones((3, 64, 64), "uint8")))
    folder = tmp_path / "run"
    folder.mkdir()
    assert preview_layers.show(project, str(folder), "Learn", Output("embedding_picture", path, "Now", {}, key="map"))
    finished = Output("embedding_picture", path, "The last one", {})
    for _ in layers.add_run(project, folder, [finished]):
        pass
    assert sorted(names(project, str(folder))) == ["Now", "The last one"]
    preview_layers.remove(project, str(folder))
    assert names(project, str(folder)) == ["The last one"]
