"""Does one run in this process: validates, calls the job, and writes down how it ended.

Exit codes: 0 done or stopped, 2 the user can mend it, 1 a bug, 130 cancelled.
"""

import errno
import json
import logging
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from rsfm import device_queue, jobs, joint, processes, registry, runs
from rsfm.awake import kept_awake
from rsfm.devices import list_devices
from rsfm.errors import Cancelled, Stopped, UserError
from rsfm.job import Job
from rsfm.locks import FileLock
from rsfm.report import write_report
from rsfm.runs import Run

log = logging.getLogger(__name__)
LITTLE_DISK_BYTES = 2**20
DISK_FULL = (
    "The disk of '{}' is full. Free some space, then press Resume; what was done by the last checkpoint is kept."
)


def find_job(name: str) -> type[Job]:
    """Import a job.

    Raises:
        UserError: there is none of that name.
    """
    try:
        return registry.member(jobs, name, Job)  # type: ignore[type-abstract]
    except LookupError as error:
        raise UserError(f"There is no job '{name}'. Known jobs: {', '.join(registry.names(jobs))}.") from error


def read_config(job: type[Job], values: dict[str, Any]) -> Any:
    """Validate a job's parameters.

    Raises:
        UserError: the first thing that is wrong, with the field it concerns.
    """
    try:
        return job.Config.model_validate(values)
    except ValidationError as error:
        raise user_error(error) from error


def user_error(error: ValidationError) -> UserError:
    """Say in a sentence what pydantic found."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"])
    if first["type"] == "value_error":
        return UserError(str(first["ctx"]["error"]), field or None)
    if first["type"] == "missing" or first["input"] == "":
        return UserError(f"'{field}' is missing. Fill it in.", field)
    return UserError(f"'{field}' is {first['input']!r}: {first['msg'].lower()}.", field or None)


def do(folder: Path, listener: Callable[[dict[str, Any]], None] | None = None) -> int:
    """Do the run of a folder and return the exit code; the folder tells the rest.

    Raises:
        UserError: another process does it.
    """
    with _alone(folder), _signals_stop(folder):
        runs.claim(folder)
        runs.keep_room(folder)
        run = Run(folder, listener)
        try:
            with kept_awake(run.options.keep_awake, f"Run '{folder.name}' goes on"):
                return _do(run, folder)
        finally:
            runs.make_room(folder)
            if run.previews.is_dir():
                from rsfm.preview import empty_previews

                empty_previews(run.previews)


def _do(run: Run, folder: Path) -> int:
    name = json.loads((folder / "run.json").read_text(encoding="utf-8"))["job"]
    try:
        job = find_job(name)
        config = read_config(job, json.loads((folder / "config.json").read_text(encoding="utf-8")))
        runs.write_json(folder / "config.json", config.model_dump(mode="json"))
        run.check()
        with _in_turn(run, job, config):
            result = _work(job, config, run)
    except Stopped:
        return _end(run, "stopped", 0)
    except Cancelled:
        runs.discard(folder)
        return _end(run, "cancelled", 130)
    except UserError as error:
        return _fail(run, error)
    except Exception as error:
        if _is_full(folder, error):
            log.error("%s", traceback.format_exc())
            return _fail(run, UserError(DISK_FULL.format(folder)))
        runs.remove_partial(run.outputs)
        log.error("%s", traceback.format_exc())
        text = f"{type(error).__name__}: {error}. The log has the details: {folder / 'log.txt'}"
        run.emit("error", text=text, field=None)
        return _end(run, "failed", 1, error=text)
    runs.make_room(folder)
    run.progress(1, "Done")
    return _end(run, "done", 0, result=result)


def _is_full(folder: Path, error: Exception) -> bool:
    """Tell whether an error is that of a full disk; libraries have errors of their own for it."""
    said = isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}
    return said or shutil.disk_usage(folder).free < LITTLE_DISK_BYTES


def _fail(run: Run, error: UserError) -> int:
    """Write down what the user can mend."""
    runs.make_room(run.folder)
    runs.remove_partial(run.outputs)
    run.emit("error", text=str(error), field=error.field)
    return _end(run, "failed", 2, error=str(error))


def _work(job: type[Job], config: Any, run: Run) -> dict[str, Any]:
    """Do the work, with other processes if there are any."""
    if not job.joint:
        return processes.together(lambda part: job().run(config, part), run)
    if processes.world()[1] == 1:
        return job().run(config, run)

    def fail(text: str) -> None:
        run.emit("error", text=text, field=None)
        _end(run, "failed", 1, error=text)

    return joint.lead(lambda part: job().run(config, part), run, fail)


def help_along(name: str, values: dict[str, Any]) -> int:
    """Help a run that another process does, and return the exit code."""
    job = find_job(name)
    config = read_config(job, values)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the run's own process hears it, and asks for the end
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    follow = joint.follow if job.joint else processes.help_along
    return follow(lambda part: job().run(config, part))


@contextmanager
def _in_turn(run: Run, job: type[Job], config: Any) -> Iterator[None]:
    """Wait for the device, and let "auto" take the one that is this run's now."""
    wanted, options = job.device(config), run.options
    waits_on_cpu = job.is_long or options.queue == "all"
    place = device_queue.place_for(wanted, waits_on_cpu) if wanted and options.queue != "never" else None
    if place is None:
        yield
        return
    with device_queue.turn(run, place, options.wait) as ids:
        mine = [device["name"] for device in list_devices() if device["id"] in ids]
        os.environ["RSFM_DEVICE"] = mine[0] if mine else ""
        try:
            yield
        finally:
            del os.environ["RSFM_DEVICE"]


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other processes from doing the same run."""
    lock = FileLock(folder / ".lock")
    with suppress(OSError):  # a disk without locks
        if not lock.take():
            raise UserError(f"The run '{folder}' is still going on. Stop it first.")
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _signals_stop(folder: Path) -> Iterator[None]:
    """Take Ctrl-C, a closed terminal and a computer that shuts down for Stop; a Cancel that was asked for stays one."""

    def stop(*_: Any) -> None:
        if not (folder / "control").exists():
            runs.request_end(folder, "stop")

    numbers = [signal.SIGINT, signal.SIGTERM]
    if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:  # else `nohup` set it
        numbers.append(signal.SIGHUP)
    before = [signal.signal(number, stop) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _report(run: Run) -> None:
    """Write the report; one that cannot be written, such as on a full disk, does not undo the run."""
    try:
        write_report(run.folder, json.loads((run.folder / "run.json").read_text(encoding="utf-8"))["title"])
    except Exception as error:
        log.error("%s", traceback.format_exc())
        run.warning(f"The report could not be written ({type(error).__name__}: {error}). The results are there.")


def _end(run: Run, state: runs.State, code: int, **extra: Any) -> int:
    """Write down how a run ended: first the folder, then the event, so that whoever hears of it finds it true.

    There may be no more space on the disk than the run has held for this.
    """
    runs.make_room(run.folder)
    runs.update(run.folder, state=state, ended=runs.now(), exit_code=code, **extra)
    if state in {"done", "stopped"}:
        _report(run)
    run.emit("done", state=state, **extra)
    return code
