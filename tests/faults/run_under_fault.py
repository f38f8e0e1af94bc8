"""A small pretraining that faults are done to, and what must be true of its folder afterwards."""

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
import warnings
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import rasterio
import torch
from rasterio.transform import from_origin
from rsfm import cli, runs
from safetensors.torch import load_file

SECONDS = 240
CHECKPOINT_SECONDS = 1.0
SLACK_SECONDS = 2.0
COPIES = multiprocessing.get_context("forkserver")
COPIES.set_forkserver_preload(["rsfm.training.pretraining", "rsfm.cli", "rsfm.worker", "rsfm.methods.moco_v2"])
RESUMABLE = {"lost", "stopped", "failed"}


class Bench:
    """A folder with a raster, a config, a queue of its own, and the weights of a run that nothing happened to."""

    def __init__(self, folder: Path, epochs: int = 30) -> None:
        self.folder, self.raster = folder, folder / "raster.tif"
        folder.mkdir(parents=True, exist_ok=True)
        pixels_CHW = np.random.default_rng(0).integers(100, 3000, (4, 96, 96)).astype("uint16")
        shape = {"count": 4, "height": 96, "width": 96, "dtype": "uint16", "crs": "EPSG:32633"}
        place = from_origin(500000, 5100000, 10, 10)
        with rasterio.open(self.raster, "w", driver="GTiff", transform=place, **shape) as target:
            target.write(pixels_CHW)
        self.config = self.make_config(self.raster, epochs)
        self.environment = {
            **os.environ, "RSFM_DATA": str(folder / "data"), "OMP_NUM_THREADS": "1", "RSFM_QUEUE": "never",
            "RSFM_KEEP_AWAKE": "no", "PYTHONDONTWRITEBYTECODE": "1",
        }  # fmt: skip
        self.whole = folder / "whole"
        done = self.rsfm("run", "pretrain", str(self.write_config(folder)), "--run", str(self.whole))
        assert done.wait() == 0, (self.folder / "log.txt").read_text()

    def make_config(self, raster: Path, epochs: int) -> dict[str, Any]:
        """Return a config whose result does not depend on the clock."""
        training = {
            "minutes": 0,
            "epochs": epochs,
            "batch_size": 4,
            "checkpoint_minutes": CHECKPOINT_SECONDS / 60,
        }
        return {"rasters": [str(raster)], "training": training, "window": 40, "device": "cpu"}

    def write_config(self, folder: Path, **changes: Any) -> Path:
        file = folder / "config.json"
        file.write_text(json.dumps({**self.config, **changes}))
        return file

    def rsfm(self, *arguments: str, fresh: bool = False) -> "Started":
        """Start a command of the backend.

        Args:
            fresh: as a shell does; else as a copy of a process that has imported everything, which saves seconds.
        """
        return Started(arguments, self.environment, self.folder / "log.txt", fresh)

    def differs(self, folder: Path) -> list[str]:
        """Name the weights of a finished run that are not those of the run that nothing happened to, to the bit."""
        ours, theirs = (load_file(path / "outputs" / "encoder.safetensors") for path in (folder, self.whole))
        return [f"weights of {name} differ" for name in theirs if not torch.equal(ours[name], theirs[name])]


class Started:
    """A process of the backend, and the end that it came to."""

    def __init__(self, arguments: tuple[str, ...], environment: dict[str, str], log: Path, fresh: bool) -> None:
        self._copied = self._fresh = None
        if fresh:
            with open(log, "ab") as sink:
                self._fresh = subprocess.Popen(
                    [sys.executable, "-E", "-s", "-m", "rsfm", *arguments],
                    env=environment, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink,
                )  # fmt: skip
        else:
            self._copied = COPIES.Process(target=command, args=(arguments, environment, str(log)), daemon=True)
            self._copied.start()

    def poll(self) -> int | None:
        """Return the exit code, minus the signal that killed it; None while it goes on."""
        return self._fresh.poll() if self._fresh else self._copied.exitcode

    def wait(self, seconds: float = SECONDS) -> int:
        """Wait for the end, and return the exit code."""
        if self._fresh:
            return self._fresh.wait(seconds)
        self._copied.join(seconds)
        if self._copied.exitcode is None:
            raise TimeoutError("the process does not end")
        return int(self._copied.exitcode)

    def kill(self) -> None:
        """Kill it, and wait until it is gone."""
        (self._fresh or self._copied).kill()
        self.wait()


def command(arguments: tuple[str, ...], environment: dict[str, str], log: str) -> None:
    """Do a command of the backend in this process."""
    os.environ.update(environment)
    sink = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    sys.exit(cli.main(list(arguments)))


def events(folder: Path) -> list[dict[str, Any]]:
    """Read all events that are whole; a torn line may only be the last one."""
    lines = (folder / "events.jsonl").read_bytes().split(b"\n")
    return [json.loads(line) for line in lines[:-1]]


def fraction(folder: Path) -> float:
    """Return how far a run is; -1 before it has begun."""
    try:
        return float(runs.last_progress(folder).get("fraction", -1.0))
    except ValueError:
        return -1.0


def wait_for_moment(folder: Path, moments: random.Random) -> str:
    """Wait for a random moment of a run, one in five of them before it trains, and say which it was."""
    if moments.random() < 0.2:
        seconds = moments.uniform(0, 4)
        time.sleep(seconds)
        return f"{seconds:.1f} s after the start"
    wanted = moments.uniform(0.02, 0.98)
    wait_until(lambda: fraction(folder) >= wanted or runs.read(folder)["state"] in runs.ENDED)
    time.sleep(moments.uniform(0, 0.2))
    return f"at {wanted:.0%}"


def wait_until(is_true: Any, seconds: float = SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not is_true():
        if time.monotonic() > deadline:
            raise TimeoutError("it did not come to pass")
        time.sleep(0.02)


def kill(pid: int) -> None:
    """Kill a process, and wait until it is gone."""
    try:
        process = psutil.Process(pid)
        process.send_signal(signal.SIGKILL)
        psutil.wait_procs([process], timeout=10)
    except psutil.NoSuchProcess:
        return


def broken(folder: Path) -> list[str]:
    """Say what is not as it must be in a run's folder, whatever happened to it."""
    found = []
    try:
        json.loads((folder / "run.json").read_text())
        told = events(folder)
    except (OSError, ValueError) as error:
        return [f"the record cannot be read: {error}"]
    named = [event["path"] for event in told if event["type"] == "output"]
    found += [f"{path} was named as an output and is not there" for path in named if not Path(path).exists()]
    for path in (folder / "outputs").rglob("*"):
        if path.is_file() and ".partial" not in path.name:
            try:
                read_whole(path)
            except Exception as error:
                found.append(f"{path.name} stands under its final name and is not whole: {error}")
    return found


def read_whole(path: Path) -> None:
    """Read a file of weights, a raster, a picture, a report or a record to its end."""
    if path.suffix == ".safetensors":
        load_file(path)
    elif path.suffix in (".tif", ".png"):
        with warnings.catch_warnings(action="ignore"), rasterio.open(path) as file:  # pictures have no place on earth
            file.read()
    elif path.suffix == ".json":
        json.loads(path.read_text(encoding="utf-8"))
    elif path.suffix == ".html":
        assert path.read_text(encoding="utf-8").rstrip().endswith("</html>")
    elif not path.stat().st_size:
        raise ValueError("it is empty")


def lost_too_much(folder: Path, before: int, killed: float) -> list[str]:
    """Say how much work a resumed run did again, if that is more than the time between two checkpoints.

    Args:
        before: how many events there were when it was killed.
        killed: when that was.
    """
    told = events(folder)
    steps = [(event["step"], event["time"]) for event in told[:before] if event["type"] == "metric"]
    after = [event["step"] for event in told[before:] if event["type"] == "metric"]
    again = [moment for step, moment in steps if after and step >= after[0]]
    if not again:
        return []
    times = [datetime.fromisoformat(moment).timestamp() for _, moment in steps] + [killed]
    longest = max(late - early for early, late in zip(times, times[1:], strict=False))
    lost = killed - datetime.fromisoformat(again[0]).timestamp()
    allowed = CHECKPOINT_SECONDS + SLACK_SECONDS + longest
    return [f"{lost:.1f} s of work were lost, {allowed:.1f} s are allowed"] if lost > allowed else []
