"""The numbers of a run in a file that TensorBoard reads, written as the run goes on.

Every start of a run has a file of its own in the run's folder, as TensorBoard expects; it lays them over each other.
"""

import os
import time
from pathlib import Path

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary

FOLDER = "tensorboard"
FLUSH_EVERY_SECONDS = 5


class ScalarFile:
    """Numbers by name and step. A file that cannot be written, such as on a full disk, is left as it is."""

    def __init__(self, run_folder: Path) -> None:
        self._writer: EventsWriter | None = None
        self._flushed = time.monotonic()
        try:
            (run_folder / FOLDER).mkdir(exist_ok=True)
            self._writer = EventsWriter(str(run_folder / FOLDER / "events"), f".{os.getpid()}")
            self._writer.flush()
        except OSError:
            self._writer = None

    def add(self, name: str, step: int, value: float) -> None:
        """Append a number; it is on the disk a few seconds later."""
        if self._writer is None:
            return
        summary = Summary(value=[Summary.Value(tag=name, simple_value=value)])
        try:
            self._writer.write_event(Event(wall_time=time.time(), step=step, summary=summary))
            if time.monotonic() - self._flushed > FLUSH_EVERY_SECONDS:
                self._flushed = time.monotonic()
                self._writer.flush()
        except OSError:
            self._writer = None

    def close(self) -> None:
        """Write what waits."""
        writer, self._writer = self._writer, None
        try:
            if writer is not None:
                writer.close()
        except OSError:
            return
