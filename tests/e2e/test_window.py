"""The whole way in a real QGIS window: fresh profile, the plugin from its zip, clicks, layers, pictures."""

import json
import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OUT = ROOT / "build" / "e2e"
PYTHON = ROOT / "backend" / ".venv" / "bin" / "python"
SLOWEST_MILLISECONDS = 50
SECONDS = 540


@pytest.fixture(scope="module")
def seen():
    """What the script in the window saw."""
    for program in ("qgis", "xvfb-run"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    shutil.rmtree(OUT, ignore_errors=True)
    (OUT / "project").mkdir(parents=True)
    subprocess.run([PYTHON, "-B", ROOT / "scripts" / "package.py"], check=True)
    plugins = OUT / "profiles" / "profiles" / "e2e" / "python" / "plugins"
    plugins.mkdir(parents=True)
    with zipfile.ZipFile(ROOT / "dist" / "rsfm_qgis.zip") as archive:
        archive.extractall(plugins)
    subprocess.run([PYTHON, "-m", "rsfm", "sample", OUT / "scene", "--size", "256"], check=True)
    environment = {
        **os.environ,
        "RSFM_PYTHON": str(PYTHON),
        "RSFM_E2E_CODE": str(Path(__file__).parent),
        "RSFM_E2E_OUT": str(OUT),
        "RSFM_E2E_SCENE": str(OUT / "scene"),
        "RSFM_DATA": str(OUT / "data"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "LC_ALL": "C.UTF-8",
    }
    environment.pop("QT_QPA_PLATFORM", None)
    options = ["--nologo", "--noversioncheck", "--profiles-path", str(OUT / "profiles"), "--profile", "e2e"]
    command = ["xvfb-run", "-a", "-s", "-screen 0 1366x768x24", "qgis.bin", *options]
    with open(OUT / "qgis.log", "w") as log:
        subprocess.run(
            [*command, "--code", str(Path(__file__).parent / "drive.py")],
            env=environment, stdout=log, stderr=log, timeout=SECONDS, check=False,
        )  # fmt: skip
    result = OUT / "result.json"
    assert result.is_file(), (OUT / "qgis.log").read_text()[-3000:]
    return json.loads(result.read_text())


def test_script_came_to_its_end_without_an_exception(seen):
    assert not seen["exceptions"], seen["exceptions"][0]
    assert "failed" not in seen, seen["failed"]
    assert seen["loaded"]


def test_selected_layers_are_a_collection_with_what_is_in_them(seen):
    dates = {date[:10] for date, _, _ in seen["collection"]}
    assert dates == {"2023-07-15", "2024-07-12"}
    assert all(bands == 9 and not problem for _, bands, problem in seen["collection"])
    assert "labels" in seen["said"]  # the polygons are selected, too


@pytest.mark.parametrize("job", ["pretrain", "finetune", "segment", "detect_change"])
def test_job_started_by_a_click_is_done(seen, job):
    assert seen["runs"][job]["state"] == "done", seen["runs"][job]["error"]


def test_layers_of_every_run_are_on_the_map_in_a_group_of_their_own(seen):
    layers = [set(names) for names in seen["groups"].values()]
    assert any("Confidence" in names for names in layers)
    assert any("Magnitude of difference" in names for names in layers)
    assert any("Blocks held out for the scores" in names for names in layers)
    assert any(len([name for name in names if "What the encoder sees" in name]) == 2 for names in layers)
    assert len(seen["groups"]) == 4


def test_wrong_parameter_is_marked_with_the_sentence_of_the_backend(seen):
    assert "overlap" in seen["mark"].lower()


def test_dock_fits_a_small_screen(seen):
    width, height = seen["minimum"]
    assert width <= 300
    assert height <= 300
    assert seen["narrow_width"] <= 300


def test_ten_reloads_leave_nothing_and_unload_removes_all(seen):
    assert seen["after_reload"] == seen["before_reload"]
    assert seen["before_reload"]["docks"] == 1
    assert set(seen["after_unload"].values()) == {0}


def test_no_function_of_ours_holds_the_main_thread(seen):
    spent = seen["slow_functions_ms"]
    assert not {name: ms for name, ms in spent.items() if max(ms) > SLOWEST_MILLISECONDS}
