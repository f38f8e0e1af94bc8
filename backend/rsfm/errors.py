"""What the user can mend, and how a run ends before its time."""


class UserError(Exception):
    """Says what was found, what was expected and which control to use.

    It reaches the panel as text. Anything else that is raised is a bug and keeps its traceback.

    Args:
        message: one sentence or two, for an analyst.
        field: the parameter that caused it, as "name" or "choice.name"; the form marks it.
    """

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class Stopped(Exception):
    """The user pressed Stop: keep what is done."""


class Cancelled(Exception):
    """The user pressed Cancel: discard what is done."""
