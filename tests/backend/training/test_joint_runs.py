"""A pretraining that two processes do, from the command line: Stop, Cancel, errors and death end both, and soon."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin
from rsfm import runs
from rsfm.jobs.pretrain import Pretrain

from .test_ranks import environment, free_port

SOON = 10.0
"""Seconds in which all processes end; two where nothing else runs."""


@pytest.fixture
def config(tmp_path: Path) -> dict[str, Any]:
    """A training that would take a long time."""
    pixels_CHW = np.random.default_rng(0).integers(1, 3000, (2, 200, 200)).astype("uint16")
    path = tmp_path / "raster.tif"
    shape = {"count": 2, "height": 200, "width": 200, "dtype": "uint16", "crs": "EPSG:32633"}
    with rasterio.open(path, "w", driver="GTiff", transform=from_origin(5e5, 5.1e6, 10, 10), **shape) as target:
        target.write(pixels_CHW)
    values = json.loads(json.dumps(Pretrain.presets()[0].values))
    values["training"] |= {"minutes": 0, "epochs": 10000, "batch_size": 8}
    values["encoder"]["width"] = 32
    return {**values, "rasters": [str(path)], "device": "cpu"}


def start(folder: Path, processes: int, command: list[str]) -> list["subprocess.Popen[bytes]"]:
    """Start processes as torchrun does, the first first."""
    port = free_port()
    return [
        subprocess.Popen(
            [sys.executable, "-m", "rsfm", *command],
            env=environment(processes, rank, port),
            stdout=subprocess.DEVNULL,
            stderr=(folder.parent / f"{rank}.txt").open("w"),
        )
        for rank in range(processes)
    ]


def start_run(config: dict[str, Any], folder: Path) -> list["subprocess.Popen[bytes]"]:
    file = folder.with_suffix(".json")
    file.write_text(json.dumps(config))
    return start(folder, 2, ["run", "pretrain", str(file), "--run", str(folder)])


def steps(folder: Path) -> list[int]:
    if not (folder / "events.jsonl").exists():
        return []
    lines = (folder / "events.jsonl").read_text().splitlines(keepends=True)
    events = [json.loads(line) for line in lines if line.endswith("\n")]
    return [event["step"] for event in events if event["type"] == "metric" and event["name"] == "loss"]


def wait_for_step(processes: list["subprocess.Popen[bytes]"], folder: Path, count: int = 1) -> None:
    deadline = time.monotonic() + 200
    while len(steps(folder)) < count:
        assert processes[0].poll() is None, (folder.parent / "0.txt").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_killed_process_ends_the_other_which_says_so(config, tmp_path):
    folder = tmp_path / "run"
    processes = start_run(config, folder)
    wait_for_step(processes, folder)
    (folder / "checkpoints" / "last.pt").touch()  # a run that has kept nothing is removed
    processes[1].kill()
    assert processes[0].wait(SOON) == 2
    found = runs.read(folder)
    assert found["state"] == "failed"
    assert "Process 1 of 2 is gone" in found["error"]
    assert "resume" in found["error"]


@pytest.mark.slow
def test_stop_ends_both_and_another_number_of_processes_goes_on(config, tmp_path):
    folder = tmp_path / "run"
    processes = start_run(config, folder)
    wait_for_step(processes, folder)
    runs.request_end(folder, "stop")
    assert [process.wait(SOON) for process in processes] == [0, 0]
    assert runs.read(folder)["state"] == "stopped"
    assert (folder / "outputs" / "encoder.safetensors").exists()
    reached = steps(folder)
    for count in (1, 2):
        again = start(folder, count, ["resume", str(folder)])
        wait_for_step(again, folder, len(reached) + 1)
        assert steps(folder)[-1] > reached[-1]
        runs.request_end(folder, "stop")
        assert [process.wait(SOON) for process in again] == [0] * count
        reached = steps(folder)


@pytest.mark.slow
def test_cancel_ends_both_and_keeps_nothing(config, tmp_path):
    folder = tmp_path / "run"
    processes = start_run(config, folder)
    wait_for_step(processes, folder)
    runs.request_end(folder, "cancel")
    assert [process.wait(SOON) for process in processes] == [130, 0]
    assert not (folder / "checkpoints").exists()


@pytest.mark.slow
def test_the_first_process_that_dies_leaves_nobody_waiting(config, tmp_path):
    folder = tmp_path / "run"
    processes = start_run(config, folder)
    wait_for_step(processes, folder)
    processes[0].kill()
    assert processes[1].wait(SOON) == 1
    processes[0].wait()
    assert runs.read(folder)["state"] == "lost"


@pytest.mark.slow
def test_an_error_of_any_process_is_the_run_s(config, tmp_path):
    folder = tmp_path / "run"
    processes = start_run({**config, "training": {**config["training"], "learning_rate": 100.0}}, folder)
    assert [process.wait(200) for process in processes] == [2, 2]
    assert "loss became" in (tmp_path / "0.txt").read_text()


@pytest.mark.slow
def test_a_batch_that_cannot_be_shared_out_is_refused_with_a_sentence(config, tmp_path):
    folder = tmp_path / "run"
    processes = start_run({**config, "training": {**config["training"], "batch_size": 9}}, folder)
    assert [process.wait(200) for process in processes] == [2, 2]
    assert "Set 'Batch size' to a multiple of 2, such as 10" in (tmp_path / "0.txt").read_text()
    assert not folder.exists()
