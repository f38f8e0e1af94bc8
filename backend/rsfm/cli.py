"""The command line: `rsfm JOB --help`, `rsfm run JOB config.json`, `rsfm serve`, and tools that need no run.

Flags are made from the same configs as the forms. Heavy imports wait until a command needs them.
"""

import argparse
import json
import logging
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from rsfm import __version__, jobs, processes, registry, runs
from rsfm.errors import UserError

USAGE = """rsfm COMMAND ...

Commands:
  run JOB CONFIG.json [--run DIR]   do a job with a config file; DIR is the run's folder
  plan JOB CONFIG.json              say what a job will cost here: time, memory, disk
  plan --devices                    list what this device can train
  resume DIR                        go on with a run that was stopped or lost
  serve                             answer the QGIS plugin on standard input and output
  describe                          print every job and its parameters as JSON
  import FILE                       make a model of weights that others trained
  inspect RASTER...                 say what is in rasters or collections, and whether they can be used
  doctor [--json]                   say which devices compute, and why the CPU is used if it is
  sample DIR                        make a small realistic scene with truth, to try things on
  golden DIR...                     compare our numbers with the authors' own
  JOB --help                        a job's parameters as flags

Jobs:
  """


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit code: 0 done, 2 the user can mend it, 1 a bug, 130 cancelled."""
    arguments = sys.argv[1:] if arguments is None else arguments
    logging.basicConfig(format="%(asctime)s %(name)s: %(message)s", stream=sys.stderr)
    if not arguments or arguments[0] in {"-h", "--help"}:
        print(USAGE + "\n  ".join(registry.names(jobs)))
        return 0
    command, rest = arguments[0], arguments[1:]
    try:
        if command == "--version":
            print(__version__)
            return 0
        if command in COMMANDS:
            code = COMMANDS[command](rest)
            sys.stdout.flush()
            return code
        if command in registry.names(jobs):
            return _job(command, rest)
        known = ", ".join([*COMMANDS, *registry.names(jobs)])
        raise UserError(f"There is no command '{command}'. Known commands: {known}.")
    except UserError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # whoever read what is printed, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _serve(_: list[str]) -> int:
    from rsfm.server import serve

    serve()
    return 0


def _describe(_: list[str]) -> int:
    from rsfm.describe import describe

    print(json.dumps(describe(), indent=1, ensure_ascii=False))
    return 0


def _run(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser("rsfm run")
    parser.add_argument("job")
    parser.add_argument("config", type=Path)
    parser.add_argument("--run", type=Path, help="folder of the run; made if it is absent")
    parser.add_argument("--json", action="store_true", help="print events as JSON lines")
    parser.add_argument("--no-wait", action="store_true", help="refuse to run while others use the device")
    parser.add_argument("--queue", choices=("trainings", "all", "never"), help="which runs wait (see RSFM_QUEUE)")
    parser.add_argument("--no-awake", action="store_true", help="let the computer fall asleep")
    options = parser.parse_args(arguments)
    try:
        values = json.loads(options.config.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"The config '{options.config}' cannot be read as JSON: {error}.") from error
    beside = {"queue": options.queue, "wait": not options.no_wait, "keep_awake": False if options.no_awake else None}
    return _do(options.job, values, options.run, options.json, beside)


def _job(name: str, arguments: list[str]) -> int:
    from rsfm import worker
    from rsfm.flags import read_flags

    job = worker.find_job(name)
    flags = read_flags(job, arguments)
    return _do(name, flags.values, flags.run, flags.json, {"wait": flags.wait})


def _work(arguments: list[str]) -> int:
    """Do the run of an existing folder; the server starts this."""
    from rsfm import worker

    return worker.do(Path(arguments[0]).absolute())


def _resume(arguments: list[str]) -> int:
    from rsfm import worker

    folder = Path(arguments[0]).absolute()
    if processes.world()[0]:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return worker.help_along(runs.read(folder)["job"], config)
    if runs.read(folder)["state"] not in runs.ENDED:
        raise UserError(f"The run '{folder}' is still going on. Stop it first.")
    (folder / "control").unlink(missing_ok=True)
    return worker.do(folder, _print_event)


def _do(job: str, values: dict[str, Any], folder: Path | None, as_json: bool, options: dict[str, Any]) -> int:
    from rsfm import worker

    if processes.world()[0]:
        return worker.help_along(job, values)
    title = worker.find_job(job).title
    folder = None if folder is None else folder.absolute()  # what a run tells of its files is read from elsewhere
    made = runs.create(default_runs() if folder is None else folder.parent, job, title, values, options=options)
    if folder is not None:
        if folder.exists():
            shutil.rmtree(made)
            raise UserError(f"'{folder}' exists already. Name another folder, or use: rsfm resume {folder}")
        made = made.rename(folder)
    code = worker.do(made, _print_json if as_json else _print_event)
    if code == 2 and not any((made / "outputs").iterdir()) and not any((made / "checkpoints").iterdir()):
        shutil.rmtree(made)  # nothing was made: leave no trace
    elif not as_json:
        print(f"Run: {made}", file=sys.stderr)
    return code


def default_runs() -> Path:
    """Where runs go unless told otherwise: RSFM_RUNS, or a folder of the user's own."""
    return Path(os.environ.get("RSFM_RUNS") or Path.home() / "rsfm" / "runs")


def _print_json(event: dict[str, Any]) -> None:
    print(json.dumps(event, ensure_ascii=False, default=str), flush=True)


def _print_event(event: dict[str, Any]) -> None:
    if event["type"] == "progress":
        eta = event["eta_seconds"]
        left = "" if eta is None else f", {eta:.0f} s left"
        print(f"{event['fraction']:6.1%} {event['message']}{left}", file=sys.stderr)
    elif event["type"] == "output":
        print(f"{event['title']}: {event['path']}")
    elif event["type"] == "waiting":
        print(event["message"], file=sys.stderr)
    elif event["type"] == "warning":
        print(f"Warning: {event['text']}", file=sys.stderr)
    elif event["type"] == "error":
        print(f"Error: {event['text']}", file=sys.stderr)


def _inspect(arguments: list[str]) -> int:
    from rsfm.raster.collection import is_collection
    from rsfm.raster.inspect import inspect_raster
    from rsfm.raster.inspect_collection import inspect_collection

    code = 0
    for path in arguments:
        try:
            print(inspect_collection(path) if is_collection(path) else inspect_raster(path))
        except UserError as error:
            print(f"Error: {error}", file=sys.stderr)
            code = 2
    return code


def _doctor(arguments: list[str]) -> int:
    from rsfm.doctor import main as doctor

    return doctor(arguments)


def _sample(arguments: list[str]) -> int:
    from rsfm.sample import main as sample

    return sample(arguments)


def _plan(arguments: list[str]) -> int:
    from rsfm.planning import main as plan

    return plan(arguments, default_runs())


def _golden(arguments: list[str]) -> int:
    from rsfm.golden import main as golden

    return golden(arguments)


def _refits(arguments: list[str]) -> int:
    from rsfm.differences.live import main as refits

    return refits(arguments)


def _import(arguments: list[str]) -> int:
    return _job("import_model", ["--checkpoint", *arguments])


COMMANDS = {
    "import": _import,
    "run": _run,
    "plan": _plan,
    "resume": _resume,
    "work": _work,
    "serve": _serve,
    "describe": _describe,
    "inspect": _inspect,
    "doctor": _doctor,
    "sample": _sample,
    "golden": _golden,
    "refits": _refits,
}
