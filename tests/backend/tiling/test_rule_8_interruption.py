"""A map that was ended before its time goes on where it ended, and no pixel tells."""

import json
import os
import random
import resource
import shutil
import signal
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
    return make_work(tmp_path_factory.mktemp("resume"), HEIGHT)


@pytest.fixture(scope="module")
def tall_work(tmp_path_factory):
    return make_work(tmp_path_factory.mktemp("tall"), 4 * HEIGHT, ["embed"])


@pytest.fixture(scope="module")
def long_work(tmp_path_factory):
    return make_work(tmp_path_factory.mktemp("long"), 20 * HEIGHT)


def make_work(folder, height, jobs=("segment", "embed")):
    """Make a raster of a few rows of blocks, a model, and what an uninterrupted run makes of them."""
    random_state = np.random.default_rng(0)
    coarse = np.kron(random_state.normal(1500, 600, (3, height // 20, WIDTH // 20)), np.ones((20, 20)))
    pixels_CHW = (coarse + random_state.normal(0, 60, (3, height, WIDTH))).clip(1, 60000).astype("uint16")
    pixels_CHW[:, 600:900, 10:40] = 0
    shape = {"count": 3, "height": height, "width": WIDTH, "dtype": "uint16", "nodata": 0}
    place = {"crs": "EPSG:32633", "transform": Affine(10, 0, 500000, 0, -10, 5100000)}
    raster = folder / "raster.tif"
    with rasterio.open(raster, "w", driver="GTiff", compress="deflate", **shape, **place) as target:
        target.write(pixels_CHW)
    model = make_model(folder / "model.safetensors", raster)
    config = {"raster": str(raster), "model": str(model), "tiling": TILING, "device": "cpu"}
    wholes, seconds = {}, {}
    for job in jobs:
        file = write_config(folder, "config", **config, **ASKED[job])
        process = start(folder, ["run", job, str(file), "--run", str(folder / job)])
        wait_for_mapping(folder / job, process)
        started = time.monotonic()
        assert process.wait() == 0
        wholes[job], seconds[job] = folder / job / "outputs", time.monotonic() - started
    return {"folder": folder, "config": config, "seconds": seconds, **wholes}


def start(folder, command):
    return subprocess.Popen(
        [sys.executable, "-m", "rsfm", *command], cwd=folder, env=ENVIRONMENT, stderr=subprocess.DEVNULL
    )


def wait_for_rows(folder, process):
    """Wait until the process has taken the run, and the journal vouches for a row of blocks."""
    wait_for_mapping(folder, process)
    while process.poll() is None:
        if any(journal.stat().st_size for journal in (folder / "checkpoints" / "rows").glob("*.journal")):
            return
        time.sleep(0.01)


def wait_for_mapping(folder, process):
    """Wait until the process has taken the run, and has said what its rows are made of."""
    identity = folder / "checkpoints" / "rows" / "identity.json"
    while process.poll() is None and not (identity.exists() and runs.read(folder).get("pid") == process.pid):
        time.sleep(0.005)


def rows_done(folder):
    """Return how many rows of the raster the journals vouch for, in all outputs, and that they can be read."""
    journals = sorted((folder / "checkpoints" / "rows").glob("*.journal"))
    entries = [json.loads(line) for journal in journals for line in journal.read_bytes().splitlines(keepends=True)]
    return sum(entry["height"] for entry in entries)


def kill(process, folder):
    """Kill a run, and tell whether it was going on: it died of the signal, and its folder knows of no end."""
    process.kill()
    died = process.wait() == -signal.SIGKILL
    run = runs.read(folder)
    return died and (run["state"], run["pid"]) == ("lost", process.pid)


@pytest.mark.parametrize("job", ["segment", "embed"])
def test_8_4_8_a_killed_run_goes_on_to_the_same_pixels(work, tmp_path, job):
    config = write_config(tmp_path, "config", **work["config"], **ASKED[job])
    folder = tmp_path / "run"
    process = start(tmp_path, ["run", job, str(config), "--run", str(folder)])
    wait_for_rows(folder, process)
    assert kill(process, folder)
    assert rows_done(folder) > 0
    assert start(tmp_path, ["resume", str(folder)]).wait() == 0
    assert same(folder / "outputs", work[job])


@pytest.mark.slow
@pytest.mark.parametrize("job", ["segment", "embed"])
def test_8_4_8_of_15_kills_at_random_moments_before_the_end_no_pixel_tells(long_work, tmp_path, job):
    """Runs are killed up to three times each, at any moment, or at any after rows are on the disk."""
    work, moments = long_work, random.Random(job)
    config = write_config(tmp_path, "config", **work["config"], **ASKED[job])
    done_at_kills = []
    for number in range(60):
        folder = tmp_path / f"run{number}"
        command = ["run", job, str(config), "--run", str(folder)]
        for wait in moments.choices([wait_for_mapping, wait_for_rows], k=3):
            process = start(tmp_path, command)
            wait(folder, process)
            time.sleep(moments.uniform(0, work["seconds"][job] / 2))
            if not kill(process, folder):
                break  # it had ended, or had not begun: this one does not count
            done_at_kills.append(rows_done(folder))
            command = ["resume", str(folder)]
        if runs.read(folder)["state"] == "lost":
            assert start(tmp_path, command).wait() == 0
        assert same(folder / "outputs", work[job])
        assert not [path.name for path in folder.rglob("*") if "partial" in path.name]
        if len(done_at_kills) >= 15:
            break
    print(f"{len(done_at_kills)} kills before the end, in {number + 1} runs; rows done: {sorted(done_at_kills)}")
    assert len(done_at_kills) >= 15
    assert sum(rows > 0 for rows in done_at_kills) >= 5


def test_8_4_8_stop_leaves_a_valid_raster_in_two_seconds_and_resume_completes_it(work, tmp_path):
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


def test_8_4_8_cancel_leaves_nothing(work, tmp_path):
    config = write_config(tmp_path, "config", **work["config"])
    folder = tmp_path / "run"
    process = start(tmp_path, ["run", "segment", str(config), "--run", str(folder)])
    wait_for_rows(folder, process)
    runs.request_end(folder, "cancel")
    assert process.wait() == 130
    assert not (folder / "outputs").exists()
    assert not (folder / "checkpoints").exists()


def test_8_4_8_rows_made_of_another_raster_are_made_again_and_the_user_is_told(work, tmp_path, capsys):
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


@pytest.mark.parametrize("share", [0.4, pytest.param(0.9, marks=pytest.mark.slow)])
def test_8_4_8_a_file_that_may_not_grow_is_said_and_the_rest_is_made_later(work, tmp_path, share):
    config = write_config(tmp_path, "config", **work["config"])
    folder = tmp_path / "run"
    limit = (int((work["embed"] / "embedding.tif").stat().st_size * share), resource.RLIM_INFINITY)
    done = subprocess.run(
        [sys.executable, "-m", "rsfm", "run", "embed", str(config), "--run", str(folder)],
        env=ENVIRONMENT, capture_output=True, text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit),
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "cannot be written" in done.stderr
    assert "Free some space" in done.stderr
    if folder.exists():  # else nothing was made, and no trace is left
        rows_done(folder)
        assert start(tmp_path, ["resume", str(folder)]).wait() == 0
        assert same(folder / "outputs", work["embed"])


FILL = """
mount -t tmpfs -o size=40m tmpfs "$1" || exit 77
"$2" -m rsfm run embed "$3" --run "$1/run" 2> "$1/../errors" &
run=$!
until [ -s "$1"/run/checkpoints/rows/embedding.partial.journal ]; do
  sleep 0.01
  kill -0 $run 2> /dev/null || exit 78
done
kill -STOP $run
cat /dev/zero > "$1/filler" 2> /dev/null
kill -CONT $run
wait $run
echo $? > "$1/../code"
cp "$1"/run/run.json "$1"/run/checkpoints/rows/embedding.partial.journal "$1/.."
rm "$1/filler"
"$2" -m rsfm resume "$1/run" && cp -r "$1/run/outputs" "$1/.."
"""
"""A disk of its own, which another program fills up once rows are done; the run waits for it, so that it cannot end
before."""


@pytest.mark.skipif(not shutil.which("unshare"), reason="needs Linux's unshare, to mount a small disk")
def test_8_4_8_a_disk_that_fills_up_in_mid_run_is_said_and_the_rest_is_made_later(tall_work, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    config = write_config(tmp_path, "config", **tall_work["config"])
    command = ["unshare", "-rm", "sh", "-c", FILL, "sh", str(disk), sys.executable, str(config)]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True)
    if done.returncode in (1, 77):
        pytest.skip(f"no disk may be mounted here: {done.stderr}")
    assert done.returncode == 0, done.stderr
    errors = (tmp_path / "errors").read_text()
    assert (tmp_path / "code").read_text() == "2\n", errors
    assert "Free some space" in errors
    assert "Traceback" not in errors
    entries = [json.loads(line) for line in (tmp_path / "embedding.partial.journal").read_text().splitlines()]
    ends = [entry["row"] + entry["height"] for entry in entries]
    assert [entry["row"] for entry in entries] == [0, *ends[:-1]]
    assert 0 < ends[-1] < HEIGHT
    assert same(tmp_path / "outputs", tall_work["embed"])
