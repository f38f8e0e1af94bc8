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


class Paused(Exception):
    """A process has done its share of the rows of a map, or must first be told which they are.

    Attributes:
        row, height: the first row that is missing, of how many.
    """

    def __init__(self, row: int, height: int) -> None:
        super().__init__(f"{row} of {height} rows are done")
        self.row, self.height = row, height
