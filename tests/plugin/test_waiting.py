"""Runs that wait, that others left, that are removed: what the list and the strip show of them."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from rsfm_qgis import paths, settings
from rsfm_qgis.client import BackendClient
from rsfm_qgis.gui.doctor_window import open_doctor
from rsfm_qgis.gui.options_page import OptionsPage
from rsfm_qgis.gui.run_strip import DISCARD, RunStrip
from rsfm_qgis.live_runs import LiveRuns
from rsfm_qgis.records import read_run
from rsfm_qgis.runs import RunList


@pytest.fixture
def config(make_raster):
    pixels = np.random.default_rng(0).integers(100, 3000, (4, 96, 96)).astype("uint16")
    training = {"minutes": 5, "batch_size": 8}
    return {"rasters": [str(make_raster(pixels))], "training": training, "window": 40, "device": "cpu"}


@pytest.fixture
def strip(workspace):
    made = RunStrip(workspace.runs)
    yield made
    for run in workspace.runs.all():
        pid = read_run(Path(run.folder)).get("pid", os.getpid())
        if run.is_live and pid != os.getpid():
            os.kill(pid, signal.SIGKILL)
    made.deleteLater()


def start(workspace, wait, config, title="Pretrain"):
    answers = []
    workspace.runs.start("pretrain", config, title, lambda *answer: answers.append(answer))
    wait(lambda: answers)
    return answers[0][0]["run"]


def is_at_work(workspace, folder):
    return is_at_work_in(workspace.runs, folder)


def is_at_work_in(runs, folder):
    run = runs.get(folder)
    return run.state == "running" and run.fraction > 0


def test_a_second_training_waits_behind_the_first_and_says_so_in_its_row(workspace, wait, config, strip):
    first = start(workspace, wait, config, "Pretrain · first")
    wait(lambda: is_at_work(workspace, first), 60)
    second = start(workspace, wait, config, "Pretrain · second")
    wait(lambda: workspace.runs.get(second).state == "waiting", 60)
    text = strip.rows[second].facts(workspace.runs.get(second))
    assert text.startswith("Waiting · Waits behind 'Pretrain · first'")
    assert not strip.rows[second].stop.isHidden()
    seen = [workspace.runs.get(second).state]
    workspace.runs.changed.connect(lambda folder: seen.append(workspace.runs.get(second).state))
    workspace.runs.stop(first)
    wait(lambda: is_at_work(workspace, second), 60)
    assert workspace.runs.get(first).state == "stopped"
    assert sorted(set(seen), key=seen.index) == ["waiting", "running"]
    workspace.runs.cancel(second)
    wait(lambda: workspace.runs.get(second).state == "cancelled")


def test_the_next_qgis_finds_a_run_that_goes_on_in_another_folder(workspace, wait, config, strip, tmp_path):
    folder = start(workspace, wait, config)
    wait(lambda: is_at_work(workspace, folder), 60)
    wait(lambda: LiveRuns(paths.live_runs()).read() == {folder})
    workspace.client.close()
    settings.write(settings.RUNS_FOLDER, str(tmp_path / "other"))
    client = BackendClient()
    runs = RunList(client, workspace.project)
    client.start()
    wait(lambda: runs.get(folder) is not None and runs.get(folder).fraction > 0, 30)
    before = runs.get(folder).fraction
    wait(lambda: runs.get(folder).fraction > before, 60)
    assert is_at_work_in(runs, folder)
    runs.cancel(folder)
    wait(lambda: runs.get(folder).state == "cancelled")
    wait(lambda: LiveRuns(paths.live_runs()).read() == set())
    client.close()


def test_the_list_of_live_runs_is_kept_without_waiting_for_the_disk(tmp_path, wait):
    path = tmp_path / "profile" / "live_runs.json"
    path.parent.mkdir()
    slow_disk = path.with_name("live_runs.json.part")
    os.mkfifo(slow_disk)  # whoever opens it to write waits until it is read
    kept = LiveRuns(path)
    kept.keep({"/runs/b", "/runs/a"})
    assert not path.exists()
    assert json.loads(slow_disk.read_text()) == ["/runs/a", "/runs/b"]
    kept.keep({"/runs/b"})
    wait(lambda: path.is_file() and LiveRuns(path).read() == {"/runs/b"})
    assert os.listdir(path.parent) == ["live_runs.json"]


@pytest.mark.parametrize("found", ["", "[1, ", "{}", "3", '["/runs/a", 3]'])
def test_a_damaged_list_of_live_runs_names_what_it_can(tmp_path, found):
    (tmp_path / "live_runs.json").write_text(found)
    assert LiveRuns(tmp_path / "live_runs.json").read() == ({"/runs/a"} if "a" in found else set())


def test_a_lost_run_says_so_is_resumed_and_is_removed_after_a_question(workspace, wait, config, strip):
    config["training"]["checkpoint_minutes"] = 0
    folder = start(workspace, wait, config)
    wait(lambda: is_at_work(workspace, folder) and any(Path(folder).glob("checkpoints/step_*.safetensors")), 60)
    os.kill(read_run(Path(folder))["pid"], signal.SIGKILL)
    wait(lambda: workspace.runs.get(folder).state == "lost")
    row = strip.rows[folder]
    assert "Ended without a word" in row.facts(workspace.runs.get(folder))
    assert "what it finished is kept" in row.facts(workspace.runs.get(folder))
    assert not row.resume.isHidden()
    assert not row.discard.isHidden()
    reached = workspace.runs.get(folder).fraction
    row.resume.click()
    wait(lambda: is_at_work(workspace, folder), 60)
    assert workspace.runs.get(folder).fraction >= reached * 0.5
    assert workspace.runs.get(folder).worked > 0
    row.stop.click()
    wait(lambda: workspace.runs.get(folder).state == "stopped")
    row.discard.click()
    assert row.discard.text().startswith("Discard ")
    assert Path(folder).is_dir()
    row.discard.click()
    wait(lambda: workspace.runs.get(folder) is None)
    assert not Path(folder).exists()
    assert folder not in strip.rows


def record(folder, **values):
    folder.mkdir(parents=True)
    (folder / "outputs").mkdir()
    (folder / "events.jsonl").touch()
    run = {
        "job": "pretrain",
        "title": "made",
        "created": "2024-01-01T00:00:00+00:00",
        "ended": "2024-01-01T00:09:00+00:00",
    }
    (folder / "run.json").write_text(json.dumps({**run, **values}))
    return str(folder)


@pytest.mark.parametrize(
    ("values", "asks"),
    [
        ({"state": "failed", "started": "2024-01-01T00:08:30+00:00"}, False),
        ({"state": "failed", "started": "2024-01-01T00:08:30+00:00", "worked": 50}, True),
        ({"state": "stopped", "started": "2024-01-01T00:08:30+00:00"}, True),
        ({"state": "cancelled"}, False),
    ],
)
def test_discard_asks_when_more_than_a_minute_of_work_would_go(workspace, wait, strip, tmp_path, values, asks):
    folder = record(tmp_path / "runs" / "made", **values)
    workspace.runs.refresh()
    wait(lambda: folder in strip.rows)
    row = strip.rows[folder]
    row.discard.click()
    assert (row.discard.text() != DISCARD) == asks
    wait(lambda: Path(folder).exists() == asks)


def test_cancel_asks_for_work_and_not_for_waiting(workspace, wait, strip, tmp_path):
    alive = {"state": "waiting", "pid": os.getpid(), "process_started": _own_start(), "waits": "Waits behind 'x'."}
    folder = record(tmp_path / "runs" / "made", **alive, started="2024-01-01T00:00:00+00:00")
    workspace.runs.refresh()
    wait(lambda: folder in strip.rows and workspace.runs.get(folder).message)
    assert workspace.runs.get(folder).work_seconds == 0
    assert strip.rows[folder].facts(workspace.runs.get(folder)) == "Waiting · Waits behind 'x'."
    state = workspace.runs.get(folder)._replace(state="running")
    assert state.work_seconds > 60
    record_path = Path(folder) / "run.json"
    record_path.write_text(json.dumps({**json.loads(record_path.read_text()), "state": "done"}))


def test_options_are_passed_to_the_run_and_kept_in_its_record(workspace, wait, config, strip):
    page = OptionsPage(workspace.client)
    page.queue.setCurrentIndex(page.queue.findData("never"))
    page.awake.setChecked(False)
    page.apply()
    folder = start(workspace, wait, config)
    assert read_run(Path(folder))["options"] == {"queue": "never", "wait": True, "keep_awake": False}
    assert settings.run_flags() == ["--queue", "never", "--no-awake"]
    page.queue.setCurrentIndex(0)
    page.awake.setChecked(True)
    page.apply()
    assert settings.run_flags() == []
    workspace.runs.cancel(folder)
    wait(lambda: workspace.runs.get(folder).state == "cancelled")


def test_doctor_opens_in_a_window_that_blocks_nothing(workspace, wait):
    window = open_doctor(None)
    assert not window.isModal()
    wait(lambda: "matrices is right" in window.text.toPlainText(), 180)
    assert "Running on" in window.text.toPlainText()
    assert window.again.isEnabled()
    window.close()


def _own_start():
    """When this process started, as the backend counts it: ticks since the computer's start."""
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    boot = next(
        int(line.split()[1]) for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime")
    )
    return boot + ticks / os.sysconf("SC_CLK_TCK")
