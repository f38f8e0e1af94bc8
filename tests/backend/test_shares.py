"""Several processes share the rows of a map, and no pixel tells."""

import contextlib
import hashlib
import os
import subprocess
import sys
import time

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from rsfm import runs
from rsfm.shares import UNIT, divide

from .exporters.test_export_model import ENCODERS, save_model
from .toy_model import make_model, same, write_config

HEIGHT, WIDTH = 2700, 80
TILING = {"tile_size": 128, "tile_overlap": 32}
MORE = [("halo", 3), ("blend", 2), ("area", 2), ("area", 3), ("embed", 2), ("embed", 3)]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A raster of a few rows of blocks, a network with a halo, one that blends, and their maps by one process."""
    folder = tmp_path_factory.mktemp("shares")
    random_state = np.random.default_rng(0)
    coarse = np.kron(random_state.normal(1500, 600, (4, HEIGHT // 20, WIDTH // 20)), np.ones((20, 20)))
    pixels_CHW = (coarse + random_state.normal(0, 60, (4, HEIGHT, WIDTH))).clip(1, 60000).astype("uint16")
    pixels_CHW[:, 900:1300, 10:40] = 0
    shape = {"count": 4, "height": HEIGHT, "width": WIDTH, "dtype": "uint16", "nodata": 0}
    place = {"crs": "EPSG:32633", "transform": Affine(10, 0, 500000, 0, -10, 5100000)}
    raster = folder / "raster.tif"
    with rasterio.open(raster, "w", driver="GTiff", compress="deflate", **shape, **place) as target:
        target.write(pixels_CHW)
    models = {"halo": make_model(folder / "halo.safetensors", raster)}
    models["blend"] = save_model(folder / "blend.safetensors", ENCODERS["vit"])
    return {"folder": folder, "raster": str(raster), "models": models}


def case(work, name):
    """The job and config of a case, and what one process makes of it."""
    job, model, more = {
        "halo": ("segment", "halo", {"polygons": True}),
        "blend": ("segment", "blend", {}),
        "area": ("segment", "blend", {"area": "500103,5074200,500711,5095431"}),
        "embed": ("embed", "blend", {"components": 3}),
    }[name]
    config = {"raster": work["raster"], "model": str(work["models"][model]), "tiling": TILING, "device": "cpu", **more}
    alone = work["folder"] / f"alone-{name}"
    if not alone.exists():
        file = write_config(work["folder"], f"config-{name}", **config)
        assert start(1, ["run", job, str(file), "--run", str(alone)]).wait() == 0
    return job, config, alone


def start(processes, command):
    several = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m", "--", "rsfm"]
    return subprocess.Popen(
        [sys.executable, *(several if processes > 1 else ["-m", "rsfm"]), *command],
        env=ENVIRONMENT,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )


def digests(outputs):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(outputs.glob("*.tif"))}


@pytest.mark.parametrize(
    ("name", "processes"),
    [("halo", 2), *(pytest.param(*case, marks=pytest.mark.slow) for case in [("blend", 3), *MORE])],
)
def test_processes_that_share_the_rows_write_the_same_file_as_one(name, processes, work, tmp_path):
    job, config, alone = case(work, name)
    folder = tmp_path / "run"
    command = ["run", job, str(write_config(tmp_path, "config", **config)), "--run", str(folder)]
    assert start(processes, command).wait() == 0
    assert digests(folder / "outputs") == digests(alone / "outputs")
    found, expected = runs.read(folder), runs.read(alone)
    assert (found["state"], found["result"]) == ("done", expected["result"])
    assert not (folder / "checkpoints" / "shares").exists()


def wait_for_shares(folder, process):
    """Wait until a share other than the first vouches for rows."""
    while process.poll() is None:
        with contextlib.suppress(FileNotFoundError):  # a share that is done takes its journal away
            journals = [path for path in folder.rglob("*.journal") if path.stat().st_size]
            if any("shares" in path.parts and path.parts[path.parts.index("shares") + 1] != "0" for path in journals):
                return True
        time.sleep(0.01)
    return False


def kill(process, folder):
    """Kill every process of a run at once."""
    import psutil

    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for each in family:
        each.kill()
    psutil.wait_procs(family)
    process.wait()


@pytest.mark.parametrize(
    ("before", "after"), [(3, 2), *(pytest.param(*case, marks=pytest.mark.slow) for case in [(2, 1), (2, 3)])]
)
def test_killed_processes_go_on_in_another_number_to_the_same_file(before, after, work, tmp_path):
    job, config, alone = case(work, "blend")
    folder = tmp_path / "run"
    command = ["run", job, str(write_config(tmp_path, "config", **config)), "--run", str(folder)]
    process = start(before, command)
    assert wait_for_shares(folder, process)
    kill(process, folder)
    assert start(after, ["resume", str(folder)]).wait() == 0
    assert digests(folder / "outputs") == digests(alone / "outputs")
    assert runs.read(folder)["result"] == runs.read(alone)["result"]


def test_stop_shows_the_rows_of_all_processes_and_resume_completes_them(work, tmp_path):
    job, config, alone = case(work, "blend")
    folder = tmp_path / "run"
    command = ["run", job, str(write_config(tmp_path, "config", **config)), "--run", str(folder)]
    process = start(2, command)
    assert wait_for_shares(folder, process)
    runs.request_end(folder, "stop")
    assert process.wait() == 0
    assert runs.read(folder)["state"] == "stopped"
    shown = folder / "outputs" / "segmentation.tif"
    if shown.exists():
        with rasterio.open(shown) as part, rasterio.open(alone / "outputs" / "segmentation.tif") as whole:
            found, expected = part.read(1), whole.read(1)
            assert np.array_equal(found[found != 255], expected[found != 255])
    assert start(1, ["resume", str(folder)]).wait() == 0
    assert same(folder / "outputs", alone / "outputs")


def test_cancel_leaves_nothing_of_any_process(work, tmp_path):
    job, config, _ = case(work, "blend")
    folder = tmp_path / "run"
    command = ["run", job, str(write_config(tmp_path, "config", **config)), "--run", str(folder)]
    process = start(2, command)
    assert wait_for_shares(folder, process)
    runs.request_end(folder, "cancel")
    process.wait()
    assert runs.read(folder)["state"] == "cancelled"
    assert not (folder / "outputs").exists()
    assert not (folder / "checkpoints").exists()


@given(
    st.integers(0, 20), st.integers(1, 9000), st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20))),
    st.integers(1, 7),
)  # fmt: skip
def test_missing_rows_are_each_given_to_one_process(start_unit, more, kept, processes):
    row, height = start_unit * UNIT, start_unit * UNIT + more
    kept = [(low * UNIT, high * UNIT) for low, high in kept if low < high]
    shares = divide(row, height, kept, processes)
    rows = [each for share in shares for first, end in share for each in range(first, end)]
    assert rows == sorted(set(rows))
    assert set(range(row, height)) - {r for low, high in kept for r in range(low, high)} <= set(rows)
    assert len(shares) == processes
