"""Several processes, as torchrun starts them, do one run: the first is the run, the others compute rows of its maps.

The first plans: it takes over the rows that are kept, and divides what is missing. Each process then computes its rows
as the job always does, in a folder of its own. When all are done, the first goes on, finds every row there, and
finishes the job alone. So a run that lost its processes goes on with any number of them.
"""

import os
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from rsfm.errors import Cancelled, Paused, Stopped, UserError
from rsfm.runs import Run
from rsfm.shares import (
    FOLDER,
    Share,
    divide,
    kept_rows,
    rows_folder,
    share_folders,
    sharing,
)

PATIENCE = timedelta(days=30)
"""How long a process waits for the others."""
Work = Callable[[Run], dict[str, Any]]


class ShareRun(Run):
    """A run as a share of it sees it: files in a folder of its own, reports of progress alone."""

    def __init__(self, folder: Path, whole: Path, reports: Run | None) -> None:
        for name in ("outputs", "checkpoints/rows"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        super().__init__(folder)
        self._whole, self._reports = whole, reports

    def emit(self, type: str, **event: Any) -> None:
        if self._reports and type == "progress":
            self._reports.progress(event["fraction"], event["message"])

    def device(self, name: str) -> None:
        """Leave that to the run itself."""

    def check(self) -> None:
        """Let the user end the run here: a share pauses where the run stops.

        Raises:
            Paused, Cancelled: as the user chose.
        """
        try:
            how = (self._whole / "control").read_text(encoding="utf-8")
        except OSError:
            return
        raise Cancelled if how.strip() == "cancel" else Paused(0, 0)


def world() -> tuple[int, int]:
    """Return the number of this process and how many there are, as torchrun or srun tell."""
    for number, count in (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS")):
        if number in os.environ and count in os.environ:
            return int(os.environ[number]), int(os.environ[count])
    return 0, 1


def find_address() -> None:
    """Set where processes meet and which of its computer each is, where srun has started them; torchrun does that."""
    if "MASTER_ADDR" not in os.environ and "SLURM_STEP_NODELIST" in os.environ:
        nodes = os.environ["SLURM_STEP_NODELIST"]  # such as node[03-05,9],other
        first = re.sub(r"\[([^],-]+)[^]]*\]", r"\1", nodes).split(",")[0]
        job, step = (int(os.environ.get(name, "0")) for name in ("SLURM_JOB_ID", "SLURM_STEP_ID"))
        os.environ["MASTER_ADDR"] = first
        os.environ.setdefault("MASTER_PORT", str(15000 + (job + 97 * step) % 10000))
    if "SLURM_LOCALID" in os.environ:
        os.environ.setdefault("LOCAL_RANK", os.environ["SLURM_LOCALID"])
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", "29500")


def together(work: Work, run: Run) -> dict[str, Any]:
    """Do a job as the first process; where nobody has kept or keeps a share, alone."""
    _, count = world()
    if count == 1 and not (run.checkpoints / FOLDER).exists():
        return work(run)
    try:
        while True:
            try:
                with sharing(Share(adopt=_to_adopt(run))):
                    result = work(run)
                shutil.rmtree(run.checkpoints / FOLDER, ignore_errors=True)
                return result
            except Paused as paused:
                _share_out(work, run, paused)
    finally:
        _tell(None)
        _part()


def help_along(work: Work) -> int:
    """Compute rows as one of the other processes, until the first has no more, and return the exit code."""
    rank, _ = world()
    while (told := _tell(None)) is not None:
        folder, shares = told
        _gather(_compute(work, Path(folder), shares[rank], None))
    _part()
    return 0


def _share_out(work: Work, run: Run, missing: Paused) -> None:
    """Let every process compute rows, and end the run if the user or an error ends it."""
    kept = [kept_rows(folder) for folder in share_folders(run.checkpoints)]
    shares = divide(missing.row, missing.height, kept, world()[1])
    _tell((str(run.folder), shares))
    errors = [error for error in _gather(_compute(work, run.folder, shares[0], run)) if error is not None]
    if errors:
        raise errors[0]
    try:
        run.check()
    except Stopped:
        with sharing(Share(adopt=_to_adopt(run), stop=True)):
            work(run)
        raise


def _compute(work: Work, whole: Path, shares: list[tuple[int, int]], reports: Run | None) -> Exception | None:
    """Compute some shares; returns what went wrong."""
    try:
        for first, end in shares:
            folder = whole / "checkpoints" / FOLDER / str(first)
            shutil.rmtree(folder, ignore_errors=True)  # its rows, if there were any, are in the run's own files
            part = ShareRun(folder, whole, reports)
            for file in rows_folder(whole).iterdir():  # what all rows are made with
                if ".partial" not in file.name:
                    shutil.copy(file, rows_folder(folder))
            try:
                with sharing(Share(first, end)):
                    work(part)
            except Paused as paused:
                if paused.row != end:
                    return None
    except (UserError, Cancelled) as error:
        return error
    except Exception as error:  # the first process writes it down
        return RuntimeError(f"process {world()[0]}: {type(error).__name__}: {error}")
    return None


def _to_adopt(run: Run) -> tuple[Path, ...]:
    return tuple(rows_folder(folder) for folder in share_folders(run.checkpoints))


def _tell(what: Any) -> Any:
    """Hand over from the first process to all."""
    from torch import distributed

    if world()[1] == 1:
        return what
    _meet()
    told = [what]
    distributed.broadcast_object_list(told, src=0)
    return told[0]


def _gather(what: Any) -> list[Any]:
    """Hand over from all processes to all."""
    from torch import distributed

    if world()[1] == 1:
        return [what]
    _meet()
    found: list[Any] = [None] * world()[1]
    distributed.all_gather_object(found, what)
    return found


def _part() -> None:
    """Leave when all have heard the last word: a connection that closes earlier ends its other side with an error."""
    from torch import distributed

    if distributed.is_initialized():
        with suppress(RuntimeError):  # another process is gone already
            distributed.barrier()
        distributed.destroy_process_group()


def _meet() -> None:
    from torch import distributed

    if not distributed.is_initialized():
        find_address()
        rank, count = world()
        distributed.init_process_group("gloo", rank=rank, world_size=count, timeout=PATIENCE)
