"""Two real processes train as one does: the same windows, views, losses and weights."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from rasterio.transform import from_origin
from rsfm.runs import Run

from .rank_case import CASES, STEPS, learn_all

ROOT = Path(__file__).parents[3]
SOON = ["mae", "dino", "moco_v2", "pera"]
NEAR = 1e-5
LATER = [case for case in CASES if case not in SOON]


@pytest.fixture(scope="module")
def raster(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Fields of four bands, with a hole of nodata, so that windows are refused and losses skip pixels."""
    random = np.random.default_rng(0)
    coarse = np.kron(random.normal(1500, 600, (4, 20, 20)), np.ones((20, 20)))
    pixels_CHW = (coarse + random.normal(0, 60, (4, 400, 400))).clip(1, 60000).astype("uint16")
    pixels_CHW[:, 60:200, 80:260] = 0
    path = tmp_path_factory.mktemp("ranks") / "raster.tif"
    shape = {"count": 4, "height": 400, "width": 400, "dtype": "uint16", "nodata": 0, "crs": "EPSG:32633"}
    with rasterio.open(path, "w", driver="GTiff", transform=from_origin(5e5, 5.1e6, 10, 10), **shape) as target:
        target.write(pixels_CHW)
    return str(path)


def environment(processes: int, rank: int, port: int) -> dict[str, str]:
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "PYTHONPATH": str(ROOT)}
    mine = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes), "OMP_NUM_THREADS": "1"}
    return {**os.environ, **address, **mine}


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def train_apart(processes: int, folder: Path, raster: str, cases: list[str]) -> None:
    command = [sys.executable, "-m", "tests.backend.training.rank_case", str(folder), raster, *cases]
    port = free_port()
    started = [
        subprocess.Popen(command, cwd=ROOT, env=environment(processes, rank, port), stderr=subprocess.PIPE)
        for rank in range(processes)
    ]
    ended = [process.communicate(timeout=500)[1].decode() for process in started]
    assert [process.returncode for process in started] == [0] * processes, "\n".join(ended)


def told(folder: Path, name: str) -> list[float]:
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    return [event["value"] for event in events if event["type"] == "metric" and event["name"] == name]


def differences(raster: str, folder: Path, cases: list[str], processes: int = 2) -> dict[str, float]:
    """Train alone and in several processes; return the largest difference of losses and of weights between the ranks.

    Returns:
        One entry for each case and loss, over all steps and ranks, and one for the states of all ranks.
    """
    alone = folder / "alone"
    work = learn_all(alone, raster, cases)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    work(Run(make(folder / "run")))
    torch.set_num_threads(threads)
    train_apart(processes, folder / "together", raster, cases)
    found: dict[str, float] = {}
    for case in cases:
        ranks = [folder / "together" / f"{case}-{rank}" for rank in range(processes)]
        for name in ("loss", "validation_loss"):
            expected_T = np.array(told(alone / f"{case}-0", name))
            told_RT = np.array([told(rank, name) for rank in ranks])
            assert expected_T.shape == (STEPS,)
            found[f"{case} {name}"] = float(np.abs(told_RT - expected_T).max())
            print(case, name, found[f"{case} {name}"], expected_T[0], expected_T[-1])
        first, *others = [torch.load(rank / "state.pt") for rank in ranks]
        equal = [torch.equal(value, other[name]) for other in others for name, value in first.items()]
        found[f"{case} weights"] = float(len(equal) - sum(equal))
    return found


def make(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_two_processes_learn_what_one_learns(raster, tmp_path):
    assert max(differences(raster, tmp_path, SOON).values()) <= NEAR


@pytest.mark.slow
@pytest.mark.parametrize("case", LATER)
def test_two_processes_learn_what_one_learns_by_every_method(case, raster, tmp_path):
    assert max(differences(raster, tmp_path, [case]).values()) <= NEAR


@pytest.mark.slow
def test_four_processes_learn_what_one_learns(raster, tmp_path):
    assert max(differences(raster, tmp_path, [*SOON, "moco_v2_groups"], 4).values()) <= NEAR
