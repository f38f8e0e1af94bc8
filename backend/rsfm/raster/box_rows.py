"""Keeps the boxes of finished rows of tiles, so that a run can go on where it ended.

One file of boxes as they lie in memory, and a journal that says how much of it is safely on the disk.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import numpy as np

from rsfm.raster.boxes import BOX, Boxes
from rsfm.raster.journal import Journal


class BoxRows:
    """Boxes row after row of tiles; what was added is on the disk.

    Attributes:
        count: how many rows there are.
    """

    def __init__(self, folder: Path) -> None:
        """Open what is there, or begin."""
        self._path, self._journal = folder / "boxes.bin", Journal(folder / "boxes.journal")
        self._file = open(self._path, "a+b")  # noqa: SIM115
        self._file.truncate(self._ends()[-1] * BOX.itemsize)

    def __enter__(self) -> "BoxRows":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._file.close()
        self._journal.close()

    @property
    def count(self) -> int:
        return len(self._journal.entries)

    def add(self, boxes_N: Boxes) -> None:
        """Take the boxes of the next row of tiles."""
        self._file.seek(0, os.SEEK_END)
        self._file.write(boxes_N.tobytes())
        self._file.flush()
        os.fsync(self._file.fileno())
        self._journal.append([{"end": self._ends()[-1] + len(boxes_N)}])

    def read(self, row: int) -> Boxes:
        """Return the boxes of a row; none beyond the last one."""
        if not 0 <= row < self.count:
            return np.empty(0, BOX)
        start, end = self._ends()[row : row + 2]
        self._file.seek(start * BOX.itemsize)
        return np.frombuffer(self._file.read((end - start) * BOX.itemsize), BOX)

    def with_neighbours(self) -> Iterator[tuple[Boxes, int, int]]:
        """Return for each row its boxes between those above and below, and which of all are its own."""
        above, here = self.read(-1), self.read(0)
        for row in range(self.count):
            below = self.read(row + 1)
            yield np.concatenate([above, here, below]), len(above), len(above) + len(here)
            above, here = here, below

    def remove(self) -> None:
        """Remove the files; they must be closed."""
        self._path.unlink(missing_ok=True)
        self._journal.path.unlink(missing_ok=True)

    def _ends(self) -> list[int]:
        return [0, *(int(entry["end"]) for entry in self._journal.entries)]
