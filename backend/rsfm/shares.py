"""Which rows of a map this process computes, when several share them. No torch: writers and jobs ask here.

A process whose share is None computes all rows. Each share has a folder of its own, as a run has, in which its rows
outlive the process; the run's own writers adopt them, block by block, from the top.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import NamedTuple

FOLDER = "shares"
UNIT = 512
"""Shares start at multiples of this many rows: a whole number of blocks of any map."""


class Share(NamedTuple):
    """Rows of one process.

    Attributes:
        first, end: computed here; nothing is computed when they are equal.
        adopt: folders whose rows are taken over.
        stop: the user has pressed Stop: show what there is.
    """

    first: int = 0
    end: int = 0
    adopt: tuple[Path, ...] = ()
    stop: bool = False


_CURRENT: ContextVar[Share | None] = ContextVar("share", default=None)


def current() -> Share | None:
    """Return the share of this process."""
    return _CURRENT.get()


@contextmanager
def sharing(share: Share) -> Iterator[None]:
    """Let jobs that are run here compute a share."""
    token = _CURRENT.set(share)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def kept_rows(folder: Path) -> tuple[int, int]:
    """Return first and end of the rows that all files of a share's folder hold."""
    first, ends = int(folder.name), []
    for journal in rows_folder(folder).glob("*.journal"):
        lines = [json.loads(line) for line in journal.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
        ends.append(lines[-1]["row"] + lines[-1]["height"] if lines else first)
    return first, min(ends, default=first)


def share_folders(checkpoints: Path) -> list[Path]:
    """List the folders of shares from the top to the bottom of the map."""
    return sorted((checkpoints / FOLDER).glob("[0-9]*"), key=lambda folder: int(folder.name))


def rows_folder(folder: Path) -> Path:
    """Return where a run, or a share, keeps rows."""
    return folder / "checkpoints" / "rows"


def divide(row: int, height: int, kept: Sequence[tuple[int, int]], processes: int) -> list[list[tuple[int, int]]]:
    """Give each process rows of what is missing: as many, in units, and neighbours where that is possible.

    Args:
        row: the first row that is missing; a multiple of a block, of which `UNIT` is one.
        kept: rows below it that somebody has.

    Returns:
        For each process first and end of rows, from top to bottom.
    """
    starts = [row, *range((row // UNIT + 1) * UNIT, height, UNIT)]
    units = [
        (first, end)
        for first, end in zip(starts, [*starts[1:], height], strict=True)
        if not any(low <= first and end <= high for low, high in kept)
    ]
    shares = []
    for number in range(processes):
        mine = units[number * len(units) // processes : (number + 1) * len(units) // processes]
        joined: list[tuple[int, int]] = []
        for first, end in mine:
            if joined and joined[-1][1] == first:
                joined[-1] = (joined[-1][0], end)
            else:
                joined.append((first, end))
        shares.append(joined)
    return shares
