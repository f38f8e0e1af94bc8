"""The map that follows the labels: one map in a job, and at each change of labels or view while somebody looks."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import rasterio
from rsfm import cli, runs

from tests.backend.toy_model import make_model

from .scene import NAMES, look, square, three_squares, write_labels, write_look, write_scene


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    path = tmp_path_factory.mktemp("session") / "scene.tif"
    return path, write_scene(path)


def once(tmp_path, capsys=None, **config):
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"device": "cpu", **config}))
    code = cli.main(["run", "probe", str(file), "--run", str(tmp_path / "run")])
    return code, tmp_path / "run"


def pixels(path):
    with rasterio.open(path) as file:
        return file.read(1), file.transform, file.nodata


@pytest.mark.parametrize("learner", ["linear", "forest"])
def test_job_maps_the_middle_of_the_raster_from_a_polygon_of_each_class(tmp_path, scene, learner):
    raster, truth_HW = scene
    labels = write_labels(tmp_path / "labels.geojson", three_squares())
    code, folder = once(tmp_path, raster=str(raster), labels=str(labels), learner=learner)
    assert code == 0
    class_HW, _, nodata = pixels(folder / "outputs" / "quick_map.tif")
    assert nodata == 255
    assert class_HW.shape == truth_HW.shape
    assert (class_HW == truth_HW).mean() > 0.9


def test_labels_in_another_crs_and_of_numbers_teach_the_same(tmp_path, scene):
    from rasterio.warp import transform_geom

    raster, _ = scene
    plain = three_squares()
    (tmp_path / "a").mkdir()
    once(tmp_path / "a", raster=str(raster),
         labels=str(write_labels(tmp_path / "plain.geojson", plain)))  # fmt: skip
    for feature in plain:
        feature["properties"]["class"] = NAMES.index(feature["properties"]["class"])
        feature["geometry"] = transform_geom("EPSG:32633", "EPSG:4326", feature["geometry"], precision=12)
    (tmp_path / "b").mkdir()
    labels = write_labels(tmp_path / "degrees.geojson", plain, "EPSG:4326")
    once(tmp_path / "b", raster=str(raster), labels=str(labels))
    first, second = (pixels(tmp_path / name / "run" / "outputs" / "quick_map.tif")[0] for name in "ab")
    assert (first == second).mean() > 0.999


def test_encoder_gives_a_map_too(tmp_path, scene):
    raster, truth_HW = scene
    model = make_model(tmp_path / "model.safetensors", raster)
    labels = write_labels(tmp_path / "labels.geojson", three_squares(side=30))
    code, folder = once(tmp_path, raster=str(raster), labels=str(labels), model=str(model))
    assert code == 0
    assert (pixels(folder / "outputs" / "quick_map.tif")[0] == truth_HW).mean() > 0.6


@pytest.mark.parametrize(
    ("features", "sentence"),
    [
        ([], "holds no shape"),
        ([square(130, 20, 12, "a")], "one class so far"),
        ([square(130, 20, 12, None), square(130, 120, 12, None)], "No shape of"),
        ([square(13000, 20, 12, "a"), square(13000, 120, 12, "b")], "No polygon has a valid pixel"),
    ],
)
def test_labels_that_teach_nothing_are_refused_in_a_sentence(tmp_path, scene, capsys, features, sentence):
    labels = write_labels(tmp_path / "labels.geojson", features)
    code, _ = once(tmp_path, raster=str(scene[0]), labels=str(labels))
    assert code == 2
    assert sentence in capsys.readouterr().err


class Live:
    """A session in a process of its own, as the server starts it."""

    def __init__(self, folder: Path, config: dict, said: dict) -> None:
        self.folder = runs.create(folder / "runs", "probe", "Map", config, {**said, "stays": True})
        self.process = subprocess.Popen([sys.executable, "-E", "-s", "-m", "rsfm", "work", str(self.folder)])

    def events(self, kind):
        lines = (self.folder / "events.jsonl").read_text().splitlines()
        return [event for event in map(json.loads, lines) if event["type"] == kind]

    def wait(self, is_true, seconds=60):
        deadline = time.monotonic() + seconds
        while not is_true():
            assert time.monotonic() < deadline, self.events("progress")[-3:]
            assert self.process.poll() is None or is_true(), (self.folder / "run.json").read_text()
            time.sleep(0.02)

    def maps(self):
        return len(self.events("preview"))

    def settle(self, sentence="", after=0):
        """Wait until a whole map is there, later than so many, which a sentence tells of."""
        self.wait(lambda: self.maps() > after and self.is_whole() and sentence in self.said())
        return self.shown()

    def is_whole(self):
        """Tell whether the last that was said is of a whole map."""
        last = json.loads((self.folder / "events.jsonl").read_text().splitlines()[-1])
        return last["type"] == "progress" and "polygons" in last["message"] and "to come" not in last["message"]

    def shown(self):
        return pixels(self.events("preview")[-1]["path"])

    def said(self):
        return self.events("progress")[-1]["message"]


@pytest.fixture
def live(tmp_path, scene):
    labels = write_labels(tmp_path / "labels.geojson", three_squares()[:1])
    config = {"raster": str(scene[0]), "labels": str(labels), "device": "cpu"}
    made = Live(tmp_path, config, look(100, 0, 250))
    made.labels = labels
    yield made
    made.process.kill()
    made.process.wait()


def test_map_follows_edits_and_moves_says_what_is_missing_and_goes_when_nobody_looks(live, scene):
    truth_HW = scene[1]
    live.wait(lambda: live.events("progress") and "one class so far" in live.said())
    assert live.maps() == 0
    write_labels(live.labels, three_squares()[:2])
    first_HW, transform, _ = live.settle("2 classes, 2 polygons")
    assert set(np.unique(first_HW)) <= {1, 2, 255}
    write_labels(live.labels, three_squares())
    second_HW, _, _ = live.settle("3 classes, 3 polygons")
    row, column = (int(at) for at in (~transform @ (500000, 5100000))[::-1])
    top, left = -row, -column
    assert top <= 100
    assert left == 0
    height, width = second_HW.shape
    assert top + height >= 350
    assert (second_HW == truth_HW[top : top + height, left : left + width]).mean() > 0.9
    count = live.maps()
    write_look(live.folder, look(400, 400, 200))
    moved_HW, transform, _ = live.settle(after=count)
    column, row = (round(at) for at in ~transform @ (500000 + 4000, 5100000 - 4000))
    assert 0 <= row < moved_HW.shape[0] - 199
    assert 0 <= column < moved_HW.shape[1] - 199
    colours = {entry["name"]: entry["colour"] for entry in live.events("preview")[-1]["style"]["classes"]}
    edited = three_squares()
    edited[0]["properties"]["color"] = "#123456"
    count = live.maps()
    write_labels(live.labels, edited)
    live.settle(after=count)
    again = {entry["name"]: entry["colour"] for entry in live.events("preview")[-1]["style"]["classes"]}
    assert again == {**colours, edited[0]["properties"]["class"]: "#123456"}
    (live.folder / "look.json").unlink()
    assert live.process.wait(30) == 0
    assert runs.read(live.folder)["state"] == "done"


def test_labels_that_become_useless_leave_the_last_map_and_the_next_edit_mends_it(live):
    write_labels(live.labels, three_squares())
    live.settle("3 classes, 3 polygons")
    count = live.maps()
    write_labels(live.labels, [])
    live.wait(lambda: "holds no shape" in live.said())
    assert live.maps() == count
    write_labels(live.labels, three_squares()[:2])
    live.wait(lambda: live.maps() > count and "2 classes" in live.said())


def test_touching_the_view_draws_nothing_new_doing_nothing_costs_nothing_and_cancel_ends_it(live):
    write_labels(live.labels, three_squares())
    live.settle("3 classes, 3 polygons")
    count = live.maps()
    for _ in range(3):
        write_look(live.folder, look(100, 0, 250))
        time.sleep(0.2)
    assert live.maps() == count
    process = psutil.Process(live.process.pid)
    before = sum(process.cpu_times()[:2])
    time.sleep(1)
    assert sum(process.cpu_times()[:2]) - before < 0.5  # a look at two files, fifty times a second
    runs.request_end(live.folder, "cancel")
    assert live.process.wait(30) == 130
    assert not (live.folder / "previews").exists()


def test_halted_session_draws_the_last_of_many_edits(live):
    write_labels(live.labels, three_squares())
    live.settle("3 classes, 3 polygons")
    count = live.maps()
    os.kill(live.process.pid, signal.SIGSTOP)
    for number in range(20):
        write_labels(live.labels, [*three_squares(), square(250, 20 + number, 5, "new")])
    os.kill(live.process.pid, signal.SIGCONT)
    live.settle("4 classes, 4 polygons", after=count)
    assert live.maps() - count < 5  # one for all edits, in a few steps of fineness
