"""The campaign of faults: programs are killed, a disk fills up, a raster goes away, at moments drawn by seed.

`make faults` runs all of it; a line for each seed, then a table of what held.
"""

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from rsfm import runs

from tests.backend.conftest import ServerProcess
from tests.faults.full_disk import disk_full
from tests.faults.qgis_killed import qgis_killed
from tests.faults.run_under_fault import (
    RESUMABLE,
    Bench,
    broken,
    events,
    fraction,
    lost_too_much,
    wait_for_moment,
    wait_until,
)

ROOT = Path(__file__).parents[2]


class Outcome(NamedTuple):
    """What one seed showed; `problems` is empty where all held."""

    fault: str
    seed: int
    moment: str
    problems: list[str]


def worker_killed(bench: Bench, folder: Path, moments: random.Random) -> tuple[str, list[str]]:
    """Kill the process of a run up to twice, resuming it each time."""
    run, said, problems = folder / "run", [], []
    fresh = moments.random() < 0.25
    process = bench.rsfm("run", "pretrain", str(bench.write_config(folder)), "--run", str(run), fresh=fresh)
    for _ in range(moments.randint(1, 2)):
        wait_until(lambda: (run / "run.json").exists())
        said.append(wait_for_moment(run, moments))
        killed = time.time()
        process.kill()
        state = runs.list_runs(folder)[0]["state"]
        if state == "done":
            break
        problems += broken(run) + ([] if state == "lost" else [f"a killed run is listed as {state}"])
        before = len(events(run))
        process = bench.rsfm("resume", str(run), fresh=fresh)
        wait_until(lambda process=process, before=before: len(events(run)) > before + 8 or process.poll() is not None)
        problems += lost_too_much(run, before, killed)
    if process.wait() not in (0, -9):
        problems.append(f"the resumed run ended with {process.returncode}: {runs.read(run).get('error')}")
    return ", ".join(said), problems + broken(run) + bench.differs(run)


def server_killed(bench: Bench, folder: Path, moments: random.Random) -> tuple[str, list[str]]:
    """Kill the server that started a run; another one must list it as it is, and follow it to its end."""
    first = ServerProcess()
    config = {**bench.config, "device": "cpu"}
    options = {"queue": "never"}
    answer = first.request("start", job="pretrain", config=config, runs_folder=str(folder / "runs"), options=options)
    run = Path(answer["result"]["run"])
    moment = wait_for_moment(run, moments)
    first.kill()
    second = ServerProcess()
    (listed,) = second.request("list", runs_folder=str(folder / "runs"))["result"]
    problems = [] if listed["state"] in {"starting", "running", "done"} else [f"listed as {listed['state']}"]
    second.request("attach", run=str(run), after=0)
    end = second.wait(lambda event: event["type"] == "done", 240)
    second.kill()
    problems += [] if end["state"] == "done" else [f"the run ended as {end['state']}"]
    return moment, problems + broken(run) + bench.differs(run)


def raster_moved(bench: Bench, folder: Path, moments: random.Random) -> tuple[str, list[str]]:
    """Move the raster away in mid-run, kill the run, and resume it before and after the raster is back."""
    run, raster, away = folder / "run", folder / "raster.tif", folder / "away.tif"
    shutil.copy(bench.raster, raster)
    config = bench.write_config(folder, rasters=[str(raster)])
    process = bench.rsfm("run", "pretrain", str(config), "--run", str(run))
    wait_until(lambda: (run / "run.json").exists() and fraction(run) > 0)
    moment = wait_for_moment(run, moments)
    raster.rename(away)
    time.sleep(moments.uniform(0, 1))
    process.kill()
    if runs.read(run)["state"] == "done":
        return f"{moment}, too late", broken(run) + bench.differs(run)
    code = bench.rsfm("resume", str(run)).wait()
    error = runs.read(run).get("error", "")
    problems = broken(run) + (
        [] if code == 2 and "raster.tif" in error else [f"resume without raster: {code}, {error}"]
    )
    away.rename(raster)
    problems += [] if runs.read(run)["state"] in RESUMABLE else ["it cannot be resumed"]
    problems += [] if bench.rsfm("resume", str(run)).wait() == 0 else ["it was not resumed with its raster"]
    return moment, problems + broken(run) + bench.differs(run)


FAULTS: dict[str, tuple[Callable[[Bench, Path, random.Random], tuple[str, list[str]]], int]] = {
    "kill -9 of the worker": (worker_killed, 28),
    "kill -9 of the server": (server_killed, 10),
    "kill -9 of QGIS": (qgis_killed, 5),
    "disk full": (disk_full, 4),
    "raster moved away": (raster_moved, 3),
}


def try_seed(fault: str, seed: int, bench: Bench) -> Outcome:
    """Do one fault at the moment that its seed draws."""
    folder = bench.folder / f"{fault.replace(' ', '_')}_{seed}"
    folder.mkdir()
    try:
        moment, problems = FAULTS[fault][0](bench, folder, random.Random(f"{fault} {seed}"))
    except Exception:
        moment, problems = "", [traceback.format_exc()]
    if not problems:
        shutil.rmtree(folder)
    return Outcome(fault, seed, moment, problems)


def main() -> int:
    """Run the campaign, print what held, and return 1 if anything did not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--share", type=float, default=1, help="share of the seeds")
    parser.add_argument("--only", help="faults whose name holds this text")
    parser.add_argument("--at-once", type=int, default=2)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # as many threads, as many roundings
    folder = Path(tempfile.mkdtemp(prefix="rsfm-faults-"))
    bench = Bench(folder)
    chosen = [name for name in FAULTS if (options.only or "") in name]
    asked = [(name, seed) for name in chosen for seed in range(max(1, round(FAULTS[name][1] * options.share)))]
    found = []
    with ThreadPoolExecutor(options.at_once) as pool:
        for outcome in pool.map(lambda each: try_seed(*each, bench), asked):
            found.append(outcome)
            said = "; ".join(outcome.problems) or "held"
            print(f"{outcome.fault} {outcome.seed} ({outcome.moment}): {said}", flush=True)
    print(f"\n{'fault':<24}{'seeds':>6}{'held':>6}")
    for name in chosen:
        mine = [outcome for outcome in found if outcome.fault == name]
        print(f"{name:<24}{len(mine):>6}{sum(not outcome.problems for outcome in mine):>6}")
    held = sum(not outcome.problems for outcome in found)
    print(f"{'all':<24}{len(found):>6}{held:>6}")
    if held == len(found):
        shutil.rmtree(folder)
        return 0
    print(f"Folders of what did not hold: {folder}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
