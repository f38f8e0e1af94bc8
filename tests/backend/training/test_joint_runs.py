"""A pretraining that two processes do, from the command line: Stop, Cancel, errors and death end both, and soon."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import rasterio
from rasterio.transform import from_origin
from rsfm import runs
from rsfm.jobs.pretrain import Pretrain

SOON = 2.0
"""Seconds in which all processes end."""


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


def start(processes: int, command: list[str]) -> "subprocess.Popen[bytes]":
    several = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m", "--", "rsfm"]
    return subprocess.Popen(
        [sys.executable, *(several if processes > 1 else ["-m", "rsfm"]), *command],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )


def start_run(config: dict[str, Any], folder: Path) -> "subprocess.Popen[bytes]":
    file = folder.with_suffix(".json")
    file.write_text(json.dumps(config))
    return start(2, ["run", "pretrain", str(file), "--run", str(folder)])


def steps(folder: Path) -> list[int]:
    if not (folder / "events.jsonl").exists():
        return []
    lines = (folder / "events.jsonl").read_text().splitlines(keepends=True)
    events = [json.loads(line) for line in lines if line.endswith("\n")]
    return [event["step"] for event in events if event["type"] == "metric" and event["name"] == "loss"]


def wait_for_step(process: "subprocess.Popen[bytes]", folder: Path, count: int = 1) -> None:
    deadline = time.monotonic() + 200
    while len(steps(folder)) < count:
        assert process.poll() is None, (folder / "run.json").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def ranks_of(process: "subprocess.Popen[bytes]", folder: Path) -> list[psutil.Process]:
    """The processes of a run, the first first."""
    first = runs.read(folder)["pid"]
    found = [child for child in psutil.Process(process.pid).children() if "torch" in " ".join(child.cmdline()) or True]
    return sorted(found, key=lambda child: child.pid != first)


def seconds_until_gone(processes: list[psutil.Process]) -> float:
    started = time.monotonic()
    gone, alive = psutil.wait_procs(processes, 30)
    for each in alive:
        each.kill()
    assert not alive
    return time.monotonic() - started


def test_stop_ends_both_and_another_number_of_processes_goes_on(config, tmp_path):
    folder = tmp_path / "run"
    process = start_run(config, folder)
    wait_for_step(process, folder)
    both = ranks_of(process, folder)
    assert len(both) == 2
    runs.request_end(folder, "stop")
    seconds_until_gone(both)
    assert process.wait() == 0
    assert runs.read(folder)["state"] == "stopped"
    assert (folder / "outputs" / "encoder.safetensors").exists()
    assert (folder / "checkpoints" / "last.pt").exists()
    reached = steps(folder)
    again = start(1, ["resume", str(folder)])
    wait_for_step(again, folder, len(reached) + 1)
    assert steps(folder)[-1] > reached[-1]
    runs.request_end(folder, "cancel")
    assert again.wait() == 130


def test_cancel_discards_and_a_killed_process_ends_the_other(config, tmp_path):
    folder = tmp_path / "run"
    process = start_run(config, folder)
    wait_for_step(process, folder)
    first, second = ranks_of(process, folder)
    (folder / "checkpoints" / "kept").touch()  # as if there were one, so that the run is not removed
    started = time.monotonic()
    second.kill()
    seconds_until_gone([first])
    print("killed:", time.monotonic() - started)
    process.wait()
    found = runs.read(folder)
    assert found["state"] == "failed"
    assert "Process 1 of 2 is gone" in found["error"]
    assert "resume" in found["error"]
