"""`rsfm plan JOB CONFIG.json`: what a job will cost here; `rsfm plan --devices`: what this device can train."""

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from rsfm import plan, worker
from rsfm.errors import UserError
from rsfm.plan import Facts, Plan, duration, make_plan, size


def main(arguments: list[str], default_runs: Path) -> int:
    """Plan, print and return the exit code.

    Raises:
        UserError: the job would refuse the config, or its counts are absurd.
    """
    parser = argparse.ArgumentParser("rsfm plan", description="Say what a job will cost on this machine.")
    parser.add_argument("job", nargs="?")
    parser.add_argument("config", nargs="?", type=Path)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--runs", type=Path, default=default_runs, help="folder of the runs, whose disk is looked at")
    parser.add_argument("--again", action="store_true", help="measure, whatever is remembered")
    parser.add_argument("--devices", action="store_true", help="list what this device can train")
    parser.add_argument("--bands", type=int, default=4, help="bands of the rasters, with --devices")
    options = parser.parse_args(arguments)
    if options.devices:
        return _devices(options.bands, options.json)
    if options.job is None or options.config is None:
        raise UserError("Name a job and its config: rsfm plan JOB CONFIG.json")
    try:
        values = json.loads(options.config.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"The config '{options.config}' cannot be read as JSON: {error}.") from error
    if options.json:
        return _print_json(options.job, values, options.runs, options.again)
    found = plan_job(options.job, values, options.runs, options.again)
    print("\n".join(table(found)))
    for text in found.warnings:
        print(f"Warning: {text}", file=sys.stderr)
    return 0


def plan_job(job: str, values: dict[str, Any], folder: Path, again: bool = False) -> Plan:
    """Plan a job from what is remembered, or from a trial.

    Raises:
        UserError: the job would refuse the config, its counts are absurd, or it cannot be planned.
    """
    config = worker.read_config(worker.find_job(job), values)  # refuses what the run would refuse
    facts = None if again else plan.recall(job, values)
    if facts is None:
        facts = _measure(job, config)
        plan.remember(job, values, facts)
    return make_plan(job, values, facts, folder)


def table(found: Plan) -> list[str]:
    """Write a plan as lines of a table."""
    done = time.strftime("%H:%M", time.localtime(time.time() + found.seconds))
    rows = {
        found.unit: f"{found.amount:,}",
        "steps": f"{found.steps:,}" if found.unit == "windows" else "",
        "time": f"{duration(found.seconds)}, done at {done}",
        "device": found.device,
        "memory": size(found.memory),
        "of the GPU": size(found.device_memory) if found.device_memory else "",
        "disk": size(found.disk),
    }
    return [f"{name:<12}{text}" for name, text in rows.items() if text]


def _measure(job: str, config: Any) -> Facts:
    if job in plan.TRAINED:
        from rsfm.training.planner import measure_pretraining

        return measure_pretraining(config)
    if job in plan.MAPPED:
        from rsfm.map_trial import measure_mapping

        return measure_mapping(job, config, worker.find_job(job)().run)
    known = ", ".join(sorted(plan.TRAINED | plan.MAPPED))
    raise UserError(f"The job '{job}' cannot be planned. Those that can: {known}.")


def _devices(bands: int, as_json: bool) -> int:
    """Print what this device can train, a line as soon as it is known."""
    from rsfm.devices import choose_device
    from rsfm.training import device_table

    device = choose_device("auto")
    if not as_json:
        print(f"{device}, {size(device_table.free_memory(device))} of memory free, {bands} bands")
        print(device_table.spread(device_table.HEAD), flush=True)
    for preset, row in device_table.try_presets(bands, device):
        told = json.dumps({"preset": preset.name, "row": row and row._asdict()})
        print(told if as_json else device_table.line(preset, row), flush=True)
    return 0


def _print_json(job: str, values: dict[str, Any], folder: Path, again: bool) -> int:
    """Print the plan, or what is wrong, as one line on standard output, where nothing else gets to."""
    protocol = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    try:
        found: dict[str, Any] = plan_job(job, values, folder, again)._asdict()
        code = 0
    except UserError as error:
        found, code = {"error": str(error), "field": error.field}, 2
    protocol.write(json.dumps(found, ensure_ascii=False) + "\n")
    protocol.flush()
    return code
