"""Several processes, as torchrun or srun start them, do one training: the first is the run, the others help it.

All do the same work in step, each on its rows of every batch. The first alone writes the run's folder and hears Stop
and Cancel; the others write to a folder of their own that is thrown away. Whatever ends one ends all: errors reach the
first, which writes them down, and a process that dies is missed within a second. The run's folder must be seen by all.
"""

import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rsfm.errors import Cancelled, Stopped, UserError
from rsfm.processes import PATIENCE, Work, find_address, world
from rsfm.rope import Lost, Place, Rope
from rsfm.runs import Run

GRACE_SECONDS = 1.0
"""How long a process may take to end by itself when another has ended."""


class Helper(Run):
    """The run as the other processes see it: what is reported is left to the first, files are thrown away."""

    def __init__(self, folder: Path, whole: Path) -> None:
        super().__init__(folder)
        for path in (self.outputs, self.previews):
            path.mkdir()
        self.checkpoints = whole / "checkpoints"

    def emit(self, type: str, **event: Any) -> None:
        """Leave that to the first process."""

    def device(self, name: str) -> None:
        """Leave that to the first process."""

    def check(self) -> None:
        """Leave that to the first process."""


def lead(work: Work, run: Run, end: Callable[[str], None]) -> dict[str, Any]:
    """Do a training as the first process.

    Args:
        end: writes down that the run has failed; called when this process itself cannot, as it waits for one that died.

    Raises:
        UserError: of any process, or one of them died.
        RuntimeError: of any process.
    """

    def ended(lost: Lost) -> None:
        if lost.told != {} and not over:
            time.sleep(GRACE_SECONDS)
            if not over:
                end(_sentence(lost))
                os._exit(1)

    over: list[bool] = []
    rope = Rope(ended)
    _meet(rope, run.folder)
    try:
        result = work(run)
    except (Stopped, Cancelled, UserError):
        raise
    except Exception as error:
        if not rope.lost.wait(GRACE_SECONDS) or rope.first is None or rope.first.told == {}:
            raise
        raise _error(rope.first) from error
    finally:
        over.append(True)
        rope.tell({})
    return result


def follow(work: Work) -> int:
    """Do a training as one of the other processes, and return the exit code."""

    def ended(lost: Lost) -> None:
        if not over:
            time.sleep(GRACE_SECONDS)
            os._exit(0 if lost.told == {} else 1)

    over: list[bool] = []
    rope = Rope(ended)
    whole = _meet(rope, None)
    code, message = 0, dict[str, Any]()
    with tempfile.TemporaryDirectory(prefix="rsfm-") as folder:
        try:
            work(Helper(Path(folder), whole))
        except (Stopped, Cancelled):
            pass
        except UserError as error:
            code, message = 2, {"text": str(error), "field": error.field, "bug": False}
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            code, message = 1, {"text": f"process {world()[0]}: {type(error).__name__}: {error}", "bug": True}
            rope.lost.wait(GRACE_SECONDS)  # if another failed first, this is only what follows from it
    over.append(True)
    if code != 1 or not rope.lost.is_set():
        rope.tell(message)
    if not code:
        rope.lost.wait(GRACE_SECONDS)  # the first may still be reading what this process sent
    return code


def _meet(rope: Rope, folder: Path | None) -> Path:
    """Connect all processes, and tell the others the run's folder."""
    import torch
    from torch import distributed

    find_address()
    rank, count = world()
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    distributed.init_process_group(backend, rank=rank, world_size=count, timeout=PATIENCE)
    told: list[Any] = [None]
    if folder is not None:
        place, meet = rope.listen(os.environ["MASTER_ADDR"], count - 1)
        told = [(str(folder), tuple(place))]
    distributed.broadcast_object_list(told, src=0, device=torch.device("cpu"))
    if folder is not None:
        meet()
        return folder
    path, where = told[0]
    rope.join(Place(*where), rank)
    return Path(path)


def _sentence(lost: Lost) -> str:
    if lost.told:
        return str(lost.told["text"])
    return (
        f"Process {lost.process} of {world()[1]} is gone, as when memory runs out or a computer is switched off. "
        "The last checkpoint is kept: resume the run, with any number of processes."
    )


def _error(lost: Lost) -> Exception:
    """Return the error that ended another process."""
    if lost.told and lost.told["bug"]:
        return RuntimeError(_sentence(lost))
    return UserError(_sentence(lost), lost.told.get("field") if lost.told else None)
