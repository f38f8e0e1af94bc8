"""A map that was ended before its time goes on where it ended, and no pixel tells."""

import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import rasterio
from affine import Affine
from rsfm import runs

from .toy_model import make_model, run_job, same, write_config

HEIGHT, WIDTH = 1700, 80
TILING = {"tile_size": 128, "tile_overlap": 32}
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A raster of a few rows of blocks, a model, and what an uninterrupted run makes of them."""
    folder = tmp_path_factory.mktemp("resume")
    random_state = np.random.default_rng(0)
    coarse = np.kron(random_state.normal(1500, 600, (3, HEIGHT // 20, WIDTH // 20)), np.ones((20, 20)))
    pixels_CHW = (coarse + random_state.normal(0, 60, (3, HEIGHT, WIDTH))).clip(1, 60000).astype("uint16")
    pixels_CHW[:, 600:900, 10:40] = 0
    shape = {"count": 3, "height": HEIGHT, "width": WIDTH, "dtype": "uint16", "nodata": 0}
    place = {"crs": "EPSG:32633", "transform": Affine(10, 0, 500000, 0, -10, 5100000)}
    raster = folder / "raster.tif"
    with rasterio.open(raster, "w", driver="GTiff", compress="deflate", **shape, **place) as target:
        target.write(pixels_CHW)
    model = make_model(folder / "model.safetensors", raster)
    config = {"raster": str(raster), "model": str(model), "tiling": TILING, "device": "cpu"}
    wholes = {job: run_job(folder, job, f"whole-{job}", **config) for job in ("segment", "embed")}
    return {"folder": folder, "config": config, **wholes}


def start(folder, command):
    return subprocess.Popen(
        [sys.executable, "-m", "rsfm", *command], cwd=folder, env=ENVIRONMENT, stderr=subprocess.DEVNULL
    )


def wait_for_rows(folder, process):
    """Wait until the journal vouches for a row of blocks."""
    while process.poll() is None:
        if any(journal.stat().st_size for journal in (folder / "checkpoints" / "rows").glob("*.journal")):
            return
        time.sleep(0.01)


def kill_and_resume(work, tmp_path, job, moments):
    """Start a job, kill it after some seconds, go on, kill it again ... then let it end."""
    config = write_config(tmp_path, "config", **work["config"])
    folder = tmp_path / "run"
    command, killed = ["run", job, str(config), "--run", str(folder)], 0
    for seconds in moments:
        process = start(tmp_path, command)
        time.sleep(seconds)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            killed += 1
        process.wait()
        if (folder / "run.json").exists():
            command = ["resume", str(folder)]
            if runs.read(folder)["state"] == "done":
                break
    assert start(tmp_path, command).wait() == 0
    assert same(folder / "outputs", work[job])
    assert not [path.name for path in (folder / "outputs").iterdir() if "partial" in path.name]
    return killed


@pytest.mark.parametrize("job", ["segment", "embed"])
def test_a_killed_run_goes_on_to_the_same_pixels(work, tmp_path, job):
    config = write_config(tmp_path, "config", **work["config"])
    folder = tmp_path / "run"
    process = start(tmp_path, ["run", job, str(config), "--run", str(folder)])
    wait_for_rows(folder, process)
    process.kill()
    process.wait()
    assert start(tmp_path, ["resume", str(folder)]).wait() == 0
    assert same(folder / "outputs", work[job])


@pytest.mark.slow
@pytest.mark.parametrize("number", range(30))
def test_killed_at_a_random_moment_and_resumed_gives_the_same_pixels(work, tmp_path, number):
    moments = random.Random(number)
    assert (
        kill_and_resume(work, tmp_path, ("segment", "embed")[number % 2], [moments.uniform(1, 12), 2.5 * number]) >= 0
    )
