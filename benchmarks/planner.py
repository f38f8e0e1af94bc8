"""Does the planner tell what happens? Planned time and memory beside those of the run itself, for every method.

Each case is planned by `rsfm plan` and done by `rsfm run`, each a process of its own. The memory is the peak of the
whole process as the system counts it, the time that from its start to its end. Processor's time is shown besides; on a
machine that does other work, which changes between the two, `--cpu` takes that for the claim. A case that is over a
bound is planned and done twice more, each shown in a line, and counts by the median of its three errors.

    python benchmarks/planner.py [--quick] [--methods mae,dino] [--sizes small,recipe] [--steps 20] [--cpu]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from rsfm.jobs.pretrain import Pretrain
from rsfm.sample import make_sample

TIME_BOUND, MEMORY_BOUND = 0.30, 0.15
ROUNDS = 3
"""Of a case that is over a bound at first."""
SIZES = {"small": 0.25, "recipe": 1.0, "large": 2.0}
"""Windows of a step, as a share of those of the method's small preset."""
RUN = """
import json, resource, sys
from rsfm.cli import main

code = main(sys.argv[1:])
used = resource.getrusage(resource.RUSAGE_SELF)
found = {"code": code, "memory": used.ru_maxrss * 1024, "cpu": used.ru_utime + used.ru_stime}
print(json.dumps(found), file=sys.stderr)
"""


class Case(NamedTuple):
    name: str
    config: dict[str, Any]
    steps: int


class Outcome(NamedTuple):
    """Planned, and as it was: seconds, processor's seconds, bytes."""

    planned: tuple[float, float, float]
    was: tuple[float, float, float]

    @property
    def errors(self) -> list[float]:
        return [abs(planned / was - 1) for planned, was in zip(self.planned, self.was, strict=True)]


def cases(rasters: list[str], sizes: list[str], wanted: list[str], steps: int) -> list[Case]:
    """Make a case of each method's small preset and each size; an epoch is as many steps as asked for."""
    found: dict[str, Any] = {}
    for preset in Pretrain.presets():
        found.setdefault(preset.values["method"]["name"], preset.values)
    made = []
    for method, values in found.items():
        if wanted and method not in wanted:
            continue
        for size in sizes:
            batch = max(8, int(values["training"]["batch_size"] * SIZES[size]))
            training = {**values["training"], "minutes": 0, "epochs": steps, "batch_size": batch}
            made.append(Case(f"{method} {size}", {**values, "rasters": rasters, "training": training}, steps))
    return made


def compare(case: Case, folder: Path) -> Outcome:
    """Plan a case and do it."""
    config = folder / f"{case.name.replace(' ', '_')}.json"
    config.write_text(json.dumps(case.config))
    rsfm = [sys.executable, "-m", "rsfm"]
    environment = {**os.environ, "RSFM_DATA": str(folder / "data")}
    said = subprocess.run(
        [*rsfm, "plan", "pretrain", str(config), "--json", "--again"], capture_output=True, text=True, env=environment
    )
    plan = json.loads(said.stdout)
    if "error" in plan:
        raise SystemExit(f"{case.name}: {plan['error']}")
    started = time.perf_counter()
    command = [sys.executable, "-c", RUN, "run", "pretrain", str(config), "--run", str(folder / config.stem)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    seconds = time.perf_counter() - started
    used = json.loads(done.stderr.splitlines()[-1])
    if used["code"] != 0:
        raise SystemExit(f"{case.name}: {done.stderr[-2000:]}")
    planned = (plan["seconds"], plan["cpu_seconds"], plan["memory"])
    return Outcome(planned, (seconds, used["cpu"], used["memory"]))


def compare_often(case: Case, folder: Path, time_index: int) -> list[float]:
    """Plan a case and do it, three times where the first is over a bound; returns the medians of its errors."""
    rounds: list[list[float]] = []
    for number in range(ROUNDS):
        (folder / str(number)).mkdir(exist_ok=True)
        found = compare(case, folder / str(number))
        print(f"{case.name:<18}{write(found)}", flush=True)
        rounds.append(found.errors)
        if number == 0 and found.errors[time_index] <= TIME_BOUND and found.errors[2] <= MEMORY_BOUND:
            break
    return [statistics.median(errors) for errors in zip(*rounds, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="three methods of one size")
    parser.add_argument("--methods", default="")
    parser.add_argument("--sizes", default="")
    parser.add_argument("--steps", type=int, default=0, help="passes over the windows")
    parser.add_argument("--cpu", action="store_true", help="compare the processor's time")
    options = parser.parse_args()
    wanted = options.methods.split(",") if options.methods else ["mae", "moco_v2", "dino"] if options.quick else []
    sizes = options.sizes.split(",") if options.sizes else ["recipe"] if options.quick else list(SIZES)
    outcomes = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_sample(folder / "scene", 512 if options.quick else 768, 0)
        rasters = [str(path) for path in sorted((folder / "scene").glob("scene_*.tif"))[:1]]
        print(f"{'case':<18}{'time: planned, was':>26}{'processor':>26}{'memory':>30}")
        for case in cases(rasters, sizes, wanted, options.steps or (4 if options.quick else 6)):
            outcomes[case.name] = compare_often(case, folder, 1 if options.cpu else 0)
    worst_time = max(errors[1 if options.cpu else 0] for errors in outcomes.values())
    worst_memory = max(errors[2] for errors in outcomes.values())
    for name, worst, bound in (("time", worst_time, TIME_BOUND), ("memory", worst_memory, MEMORY_BOUND)):
        print(f"CLAIM planner_{name}_worst_error {worst:.3f} {bound:.2f} {'ok' if worst <= bound else 'short'}")


def write(found: Outcome) -> str:
    """Write planned, was and error of each."""
    cells = []
    for planned, was, error, unit in zip(found.planned, found.was, found.errors, ("s", "s", "MB"), strict=True):
        scale = 1e6 if unit == "MB" else 1
        cells.append(f"{planned / scale:9.1f} {was / scale:7.1f} {unit} {error:6.1%}")
    return "".join(cells)


if __name__ == "__main__":
    main()
