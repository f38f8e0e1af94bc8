"""How a run behaves beside others, as its folder records it: no parameter of a job, and nothing the result tells of."""

import os
from typing import Any, Literal, NamedTuple, get_args

from rsfm.errors import UserError

Queue = Literal["trainings", "all", "never"]


class RunOptions(NamedTuple):
    """What a user sets once for all runs.

    Attributes:
        queue: "trainings": on a GPU each run waits for those before it, on the CPU trainings wait for each other;
            "all": on the CPU maps wait as well; "never": nothing waits.
        wait: for a device that others use; else the run is refused.
        keep_awake: the computer does not sleep by itself while the run goes on.
    """

    queue: Queue = "trainings"
    wait: bool = True
    keep_awake: bool = True


def read_options(said: dict[str, Any] | None = None) -> RunOptions:
    """Make options of what was said, then of RSFM_QUEUE and RSFM_KEEP_AWAKE, then of the defaults.

    Raises:
        UserError: a way to queue that there is not.
    """
    general = {"queue": os.environ.get("RSFM_QUEUE"), "keep_awake": os.environ.get("RSFM_KEEP_AWAKE") != "no"}
    given = {name: value for name, value in (said or {}).items() if value is not None and name in RunOptions._fields}
    options = RunOptions(**{name: value for name, value in {**general, **given}.items() if value is not None})
    if options.queue not in get_args(Queue):
        raise UserError(
            f"Runs cannot queue by '{options.queue}'. Set RSFM_QUEUE to one of: {', '.join(get_args(Queue))}."
        )
    return options
