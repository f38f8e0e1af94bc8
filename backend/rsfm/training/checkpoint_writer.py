"""Writes checkpoints in a thread of its own, one at a time, while the training goes on."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

from rsfm.blocks.ranks import rank
from rsfm.errors import Cancelled, UserError
from rsfm.training.checkpoint import Position, Snapshot, Training, describe, load, snapshot, write
from rsfm.training.finite import FiniteCheck


class CheckpointWriter:
    """The checkpoints of a training. Leaving waits for the one under way; a cancelled training gives it up.

    Attributes:
        finite: what is known of the losses; nothing is saved before the last one is known to be a number.
    """

    def __init__(self, folder: Path, training: Training, warn: Callable[[str], None]) -> None:
        """Write nothing yet.

        Args:
            warn: is told of a checkpoint that is cut off, and what went wrong with the last one of a training that
                ends for another reason.
        """
        self._folder, self._training, self._warn = folder, training, warn
        self.finite = FiniteCheck()
        self._pool = ThreadPoolExecutor(1, "checkpoint")
        self._given_up = threading.Event()
        self._writing: tuple[Future[Path], Snapshot] | None = None

    def __enter__(self) -> "CheckpointWriter":
        self._pool.submit(int).result()  # the thread starts now: one without memory to start is waited for in vain
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is Cancelled:
            self._given_up.set()
        try:
            self.wait()
        except (UserError, Cancelled) as failed:
            if kind is None:
                raise
            if kind is not Cancelled and failed is not error:
                self._warn(str(failed))
        finally:
            self._pool.shutdown()

    def restore(self) -> Position:
        """Restore the training from its newest whole checkpoint; errors as in `load`."""
        return load(self._folder, self._training, self._warn)

    def save(self, position: Position) -> None:
        """Copy the training and write the copy, after the one before; what went wrong with that one is raised here.

        Raises:
            NotFinite: the last loss was not.
        """
        self.wait()
        self.finite.settle()
        if rank():  # the first process writes for all
            return
        state = snapshot(self._training, position)
        self._writing = self._pool.submit(write, self._folder, state, self._go_on), state

    def wait(self) -> None:
        """Wait until all is on the disk.

        Raises:
            UserError: it could not be written.
        """
        if self._writing is None:
            return
        (writing, state), self._writing = self._writing, None
        try:
            writing.result()
        except MemoryError:  # what the training has freed is often for its own thread alone
            self._write_here(state)

    def look(self) -> None:
        """Raise what went wrong meanwhile, without waiting; errors as in `wait`."""
        if self._writing is not None and self._writing[0].done():
            self.wait()

    def _write_here(self, state: Snapshot) -> None:
        try:
            write(self._folder, state, self._go_on)
        except MemoryError as error:
            raise UserError(
                f"The checkpoint cannot be written, as the computer's memory is full. {describe(self._folder)} "
                "Close other programs and resume the run."
            ) from error

    def _go_on(self) -> None:
        if self._given_up.is_set():
            raise Cancelled
