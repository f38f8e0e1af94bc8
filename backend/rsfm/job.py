"""A job is everything the user can start: one form, one algorithm of the toolbox, one command, one help text.

A member of `jobs/` is one file: a `Config`, and `run`, which reports through the `Run` it is given and knows nothing of
processes, pipes or windows.
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple

from rsfm.params import Config
from rsfm.runs import Run


class Preset(NamedTuple):
    """Values that belong together; a form fills them in, the command line takes them with --preset.

    Attributes:
        name: such as "quick".
        title: what the form calls it.
        help: when to choose it, in a sentence.
        values: part of a config, nested as the config is.
        for_gpu: made for a GPU; the first of these is what the form begins with where there is one.
    """

    name: str
    title: str
    help: str
    values: dict[str, Any]
    for_gpu: bool = False


class Job(ABC):
    """What the user can start.

    Attributes:
        name: the module's name, an imperative: "detect_change".
        title: what the form is called: "Detect change".
        page: the page of the dock it stands on: "imagery", "pretrain", "fine_tune", "map", "change" or "explore".
        Config: its parameters; its docstring is the help text, the first line the short one.
        rank: on its page; the lowest is shown first.
        is_long: it takes hours and all of a computer, so that two of it wait for each other even on the CPU.
        joint: several processes do all of it in step; otherwise they share the rows of its maps.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    page: ClassVar[str]
    Config: ClassVar[type[Config]]
    rank: ClassVar[int] = 0
    is_long: ClassVar[bool] = False
    joint: ClassVar[bool] = False

    @classmethod
    def presets(cls) -> list[Preset]:
        """Return the presets of this job, the default first."""
        return []

    @classmethod
    def device(cls, config: Any) -> str | None:
        """Return the device that it computes on with these parameters; None where it needs none of its own."""
        return getattr(config, "device", None)

    @abstractmethod
    def run(self, config: Any, run: Run) -> dict[str, Any]:
        """Do it.

        Args:
            config: a validated `Config` of this job.
            run: the folder to write to, and the way to report.

        Returns:
            The result in a few numbers and words, which JSON can hold.

        Raises:
            UserError: the user can mend it.
            Stopped, Cancelled: raised by `run.check()`; let them pass after keeping or removing what is done.
        """
