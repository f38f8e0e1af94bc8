"""A map that was ended before its time goes on where it ended, and no pixel tells."""

import json
import os
import random
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from rsfm import cli, runs

from ..toy_model import make_model, pixels, run_job, same, write_config

HEIGHT, WIDTH = 1700, 80
ASKED = {"segment": {"probabilities": True}, "embed": {}}
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
    wholes, seconds = {}, {}
    for job in ("segment", "embed"):
        file = write_config(folder, "config", **config, **ASKED[job])
        started = time.monotonic()
        assert start(folder, ["run", job, str(file), "--run", str(folder / job)]).wait() == 0
        wholes[job], seconds[job] = folder / job / "outputs", time.monotonic() - started
    return {"folder": folder, "config": config, "seconds": seconds, **wholes}


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
    config = write_config(tmp_path, "config", **work["config"], **ASKED[job])
    folder = tmp_path / "run"
    command = ["run", job, str(config), "--run", str(folder)]
    for seconds in moments:
        process = start(tmp_path, command)
        time.sleep(seconds)
        process.kill()
        process.wait()
        if (folder / "run.json").exists():
            command = ["resume", str(folder)]
    assert start(tmp_path, command).wait() == 0
    assert same(folder / "outputs", work[job])
    assert not [path.name for path in folder.rglob("*") if "partial" in path.name]


@pytest.mark.parametrize("job", ["segment", "embed"])
def test_a_killed_run_goes_on_to_the_same_pixels(work, tmp_path, job):
    config = write_config(tmp_path, "config", **work["config"], **ASKED[job])
    folder = tmp_path / "run"
    process = start(tmp_path, ["run", job, str(config), "--run", str(folder)])
    wait_for_rows(folder, process)
    process.kill()
    process.wait()
    assert start(tmp_path, ["resume", str(folder)]).wait() == 0
    assert same(folder / "outputs", work[job])


@pytest.mark.slow
@pytest.mark.parametrize("number", range(15))
def test_killed_at_two_random_moments_and_resumed_gives_the_same_pixels(work, tmp_path, number):
    job = ("segment", "embed")[number % 2]
    longest = work["seconds"][job]
    moments = random.Random(number)
    kill_and_resume(work, tmp_path, job, [moments.uniform(0.3, 1.0) * longest for _ in range(2)])


def test_stop_leaves_a_valid_raster_in_two_seconds_and_resume_completes_it(work, tmp_path):
    config = write_config(tmp_path, "config", **work["config"], **ASKED["segment"])
    folder = tmp_path / "run"
    process = start(tmp_path, ["run", "segment", str(config), "--run", str(folder)])
    wait_for_rows(folder, process)
    stopped = datetime.now(UTC)
    runs.request_end(folder, "stop")
    assert process.wait() == 0
    run = runs.read(folder)
    assert run["state"] == "stopped"
    assert (datetime.fromisoformat(run["ended"]) - stopped).total_seconds() < 2
    for name in ("segmentation.tif", "confidence.tif", "probability.tif"):
        with rasterio.open(folder / "outputs" / name) as part, rasterio.open(work["segment"] / name) as whole:
            assert (part.transform, part.crs, part.shape) == (whole.transform, whole.crs, whole.shape)
            found, expected, missing = part.read(1), whole.read(1), ~(part.read_masks(1) > 0)
            np.testing.assert_array_equal(found[~missing], expected[~missing])
            assert 0 < missing.sum() < missing.size
            assert not missing[:512].any() or np.array_equal(missing[:512], whole.read_masks(1)[:512] == 0)
    outputs = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    assert {event["kind"] for event in outputs if event["type"] == "output"} == {"classes", "confidence", "probability"}
    assert start(tmp_path, ["resume", str(folder)]).wait() == 0
    assert same(folder / "outputs", work["segment"])
    result, expected = (runs.read(path.parent)["result"] for path in (folder / "outputs", work["segment"]))
    assert result == expected


def test_cancel_leaves_nothing(work, tmp_path):
    config = write_config(tmp_path, "config", **work["config"])
    folder = tmp_path / "run"
    process = start(tmp_path, ["run", "segment", str(config), "--run", str(folder)])
    wait_for_rows(folder, process)
    runs.request_end(folder, "cancel")
    assert process.wait() == 130
    assert not (folder / "outputs").exists()
    assert not (folder / "checkpoints").exists()


def test_rows_made_of_another_raster_are_made_again_and_the_user_is_told(work, tmp_path, capsys):
    raster = tmp_path / "raster.tif"
    raster.write_bytes(Path(work["config"]["raster"]).read_bytes())
    config = write_config(tmp_path, "config", **ASKED["segment"], **{**work["config"], "raster": str(raster)})
    folder = tmp_path / "run"
    process = start(tmp_path, ["run", "segment", str(config), "--run", str(folder)])
    wait_for_rows(folder, process)
    process.kill()
    process.wait()
    with rasterio.open(raster, "r+") as file:
        file.write(np.full((3, 200, WIDTH), 700, "uint16"), window=((0, 200), (0, WIDTH)))
    assert cli.main(["resume", str(folder)]) == 0
    assert "made with another raster" in capsys.readouterr().err
    expected = run_job(tmp_path, "segment", "fresh", **json.loads(config.read_text()))
    assert same(folder / "outputs", expected)
    assert not np.array_equal(pixels(expected / "segmentation.tif"), pixels(work["segment"] / "segmentation.tif"))
