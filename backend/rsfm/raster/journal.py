"""An append-only record of what is safely on the disk: one JSON line an entry; a torn last line does not count."""

import json
import os
from pathlib import Path
from typing import Any


class Journal:
    """Entries in the order in which they were made.

    Attributes:
        entries: those on the disk.
    """

    def __init__(self, path: Path) -> None:
        """Open the record, or begin it."""
        self.path = path
        self._file = open(path, "a+b")  # noqa: SIM115
        self._file.seek(0)
        whole = [line for line in self._file.read().splitlines(keepends=True) if line.endswith(b"\n")]
        self.entries: list[dict[str, Any]] = [json.loads(line) for line in whole]
        self._file.truncate(sum(len(line) for line in whole))

    def append(self, entries: list[dict[str, Any]]) -> None:
        """Add entries; they are on the disk when this returns."""
        self._file.write(b"".join(json.dumps(entry).encode() + b"\n" for entry in entries))
        self.sync()
        self.entries += entries

    def cut(self, count: int) -> None:
        """Forget all but the first entries."""
        kept = self.entries[:count]
        self._file.truncate(sum(len(json.dumps(entry).encode()) + 1 for entry in kept))
        self.sync()
        self.entries = kept

    def sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()
