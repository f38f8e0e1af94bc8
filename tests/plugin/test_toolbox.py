"""Every job in the toolbox: its parameters, and real runs from there."""

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from qgis.core import (
    QgsApplication,
    QgsFeature,
    QgsGeometry,
    QgsProcessingAlgRunnerTask,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeatureSourceDefinition,
    QgsProcessingFeedback,
    QgsProcessingParameterDefinition,
    QgsRasterLayer,
    QgsVectorLayer,
)

from rsfm_qgis import schema
from rsfm_qgis.records import read_record, read_run
from rsfm_qgis.toolbox.algorithm import JobAlgorithm
from rsfm_qgis.toolbox.parameters import named_fields, read_values
from rsfm_qgis.toolbox.provider import Provider

QGIS_PROCESS = shutil.which("qgis_process.bin") or "qgis_process"  # the wrapper adds options meant for the window
ADVANCED = QgsProcessingParameterDefinition.Flag.FlagAdvanced


@pytest.fixture
def provider(qgis_app):
    made = Provider()
    QgsApplication.processingRegistry().addProvider(made)
    yield made
    QgsApplication.processingRegistry().removeProvider(made)


@pytest.fixture
def pair(make_raster):
    random = np.random.default_rng(1)
    before = random.integers(500, 2500, (3, 64, 64)).astype("uint16")
    after = before.copy()
    after[:, 10:30, 10:30] += 4000
    return {"before": str(make_raster(before, "before.tif")), "after": str(make_raster(after, "after.tif"))}


def test_every_job_is_an_algorithm(provider):
    assert {algorithm.name() for algorithm in provider.algorithms()} == set(schema.jobs())


@pytest.mark.parametrize("name", schema.jobs())
def test_names_of_parameters_are_unique_and_none_is_missing(provider, name):
    wanted = [named.name for named in named_fields(schema.jobs()[name].fields)]
    assert len(wanted) == len(set(wanted))
    found = [definition.name() for definition in provider.algorithm(name).parameterDefinitions()]
    assert found == [*wanted, "RUN"]


def test_required_parameters_are_required_and_others_are_not(provider):
    for name, job in schema.jobs().items():
        required = {field.name for field in job.fields if field.required}
        for definition in provider.algorithm(name).parameterDefinitions():
            optional = bool(definition.flags() & QgsProcessingParameterDefinition.Flag.FlagOptional)
            assert optional == (definition.name() not in required), f"{name}: {definition.name()}"


def test_advanced_parameters_are_advanced(provider):
    definition = provider.algorithm("pretrain").parameterDefinition
    assert definition("device").flags() & ADVANCED
    assert not definition("rasters").flags() & ADVANCED


@pytest.mark.parametrize("name", schema.jobs())
def test_nothing_said_gives_the_defaults(provider, name):
    job = schema.jobs()[name]
    algorithm = JobAlgorithm(job)
    algorithm.initAlgorithm()
    fields = tuple(field for field in job.fields if not field.required)
    values = read_values(algorithm, fields, {}, QgsProcessingContext())
    assert schema.complete(fields, values) == schema.complete(fields, {})


def test_options_of_every_choice_take_only_their_own_fields(provider):
    job = schema.jobs()["pretrain"]
    field = next(field for field in job.fields if field.kind == "choice")
    algorithm = JobAlgorithm(job)
    algorithm.initAlgorithm()
    for option in field.options:
        values = read_values(algorithm, (field,), {field.name: option.name}, QgsProcessingContext())[field.name]
        assert values == schema.choice_values(field, {"name": option.name})


def test_algorithm_runs_and_says_where_the_results_are(provider, project, pair, tmp_path):
    algorithm = provider.algorithm("detect_change").create()
    folder = tmp_path / "my run"
    result, ok = algorithm.run({**pair, "RUN": str(folder)}, QgsProcessingContext(), QgsProcessingFeedback())
    assert ok
    assert Path(result["RUN"]) == folder
    assert Path(result["CHANGE"]).is_file()
    assert json.loads((folder / "run.json").read_text())["state"] == "done"


def test_layers_are_handed_to_the_project(provider, project, pair, tmp_path):
    context = QgsProcessingContext()
    context.setProject(project)
    algorithm = provider.algorithm("detect_change").create()
    _, ok = algorithm.run({**pair, "RUN": str(tmp_path / "run")}, context, QgsProcessingFeedback())
    assert ok
    assert str(tmp_path / "run" / "outputs" / "change.tif") in context.layersToLoadOnCompletion()


def test_folder_that_is_there_already_gets_a_run_inside(provider, project, pair, tmp_path):
    (tmp_path / "mine").mkdir()
    algorithm = provider.algorithm("detect_change").create()
    result, ok = algorithm.run({**pair, "RUN": str(tmp_path / "mine")}, QgsProcessingContext(), QgsProcessingFeedback())
    assert ok
    assert Path(result["RUN"]).parent == tmp_path / "mine"


def test_bad_input_raises_the_sentence_of_the_backend(provider, project, pair, make_raster):
    other = make_raster(np.zeros((2, 64, 64), "uint16"), "two_bands.tif")
    parameters = {**pair, "after": str(other)}
    with pytest.raises(QgsProcessingException, match="band"):
        provider.algorithm("detect_change").create().run(
            parameters, QgsProcessingContext(), QgsProcessingFeedback(), {}, False
        )


def test_cancel_ends_the_run_and_discards_what_it_made(provider, project, make_raster, tmp_path, wait):
    raster = make_raster(np.random.default_rng(0).integers(0, 999, (3, 128, 128)).astype("uint16"))
    parameters = {"rasters": [str(raster)], "training.minutes": 1, "RUN": str(tmp_path / "run")}
    context, feedback = QgsProcessingContext(), QgsProcessingFeedback()
    algorithm = provider.algorithm("pretrain").create()
    task = QgsProcessingAlgRunnerTask(algorithm, parameters, context, feedback)
    QgsApplication.taskManager().addTask(task)
    wait(lambda: read_record(tmp_path / "run").progress)
    cancelled = time.monotonic()
    feedback.cancel()
    wait(lambda: read_run(tmp_path / "run")["state"] == "cancelled", 60)
    assert time.monotonic() - cancelled < 2.5
    assert not list((tmp_path / "run").glob("outputs/*"))
    wait(lambda: not QgsApplication.taskManager().count(), 60)


def test_qgis_process_lists_and_runs_it(pair, tmp_path):
    profile = tmp_path / "home"
    plugins = profile / "plugins"
    plugins.mkdir(parents=True)
    subprocess.run([os.environ["RSFM_PYTHON"], "-B", str(ROOT / "scripts" / "package.py")], check=True)
    subprocess.run(
        ["/usr/bin/python3", "-m", "zipfile", "-e", str(ROOT / "dist" / "rsfm_qgis.zip"), str(plugins)], check=True
    )
    environment = {**os.environ, "HOME": str(profile), "QGIS_PLUGINPATH": str(plugins), "XDG_RUNTIME_DIR": str(profile)}
    environment["QGIS_OPTS"] = ""
    environment.pop("XDG_CONFIG_HOME", None)
    subprocess.run([QGIS_PROCESS, "plugins", "enable", "rsfm_qgis"], env=environment, capture_output=True, check=True)
    command = [QGIS_PROCESS, "--json", "run", "rsfm:detect_change", "--"]
    values = [f"before={pair['before']}", f"after={pair['after']}", f"RUN={tmp_path / 'run'}"]
    done = subprocess.run([*command, *values], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert Path(json.loads(done.stdout)["results"]["CHANGE"]).is_file()


def test_area_may_be_polygons_or_those_selected(provider, project, make_raster):
    raster = QgsRasterLayer(str(make_raster(np.zeros((1, 8, 8), "uint8"))), "zone 33")
    fields = QgsVectorLayer("PolygonZ?crs=EPSG:4326", "fields", "memory")
    for west in (15, 16):
        feature = QgsFeature()
        feature.setGeometry(
            QgsGeometry.fromWkt(f"PolygonZ (({west} 46 1, {west}.001 46 1, {west} 46.001 1, {west} 46 1))")
        )
        fields.dataProvider().addFeature(feature)
    project.addMapLayers([raster, fields])
    context = QgsProcessingContext()
    context.setProject(project)
    algorithm = JobAlgorithm(schema.jobs()["segment"])
    algorithm.initAlgorithm()

    def area(**given):
        parameters = {"raster": raster.source(), **{name.replace("_", "."): value for name, value in given.items()}}
        return read_values(algorithm, schema.jobs()["segment"].fields, parameters, context).get("area")

    found = QgsGeometry.fromWkt(area(area_polygons=fields.id()))
    assert found.constGet().numGeometries() == 2
    assert found.boundingBox().xMinimum() == pytest.approx(500000, abs=1)  # 15° east is the middle of zone 33
    selected = QgsProcessingFeatureSourceDefinition(fields.id(), selectedFeaturesOnly=True)
    with pytest.raises(QgsProcessingException, match="none is selected"):
        area(area_polygons=selected)
    fields.selectByIds([2])
    assert QgsGeometry.fromWkt(area(area_polygons=selected)).boundingBox().xMinimum() > 570000
    with pytest.raises(QgsProcessingException, match="twice"):
        area(area_polygons=selected, area="500000,500010,5099990,5100000")
    assert area() is None
    names = {name: [each.name for each in named_fields(job.fields)] for name, job in schema.jobs().items()}
    assert "area.polygons" in names["segment"]
    assert "area.polygons" not in names["detect_change"]
