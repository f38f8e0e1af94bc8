"""Keeps a limited number of files open, the ones used last, so that a collection may have more than a process can."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

MOST_OPEN = 64


class Open(Protocol):
    """What can be closed: a raster, a mask."""

    def close(self) -> None: ...


File = TypeVar("File", bound=Open)


class _Held:
    """A file, how many are reading it now, and the lock under which it is opened."""

    def __init__(self) -> None:
        self.file: Any = None
        self.users = 0
        self.opening = threading.Lock()


class OpenFiles:
    """Files that are opened when they are first used and closed when others were used since; threads may share it."""

    def __init__(self, most: int = MOST_OPEN) -> None:
        """Keep at most `most` files open, and those in use."""
        self.most = most
        self._lock = threading.Lock()
        self._held: OrderedDict[Hashable, _Held] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    @contextmanager
    def use(self, key: Hashable, open_it: Callable[[], File]) -> Iterator[File]:
        """Lend a file, opened by `open_it` unless it still is; it stays open while it is lent."""
        with self._lock:
            held = self._held.setdefault(key, _Held())
            self._held.move_to_end(key)
            held.users += 1
            superfluous = self._take_superfluous()
        for file in superfluous:
            file.close()
        try:
            with held.opening:
                if held.file is None:
                    held.file = open_it()
            yield held.file
        finally:
            with self._lock:
                held.users -= 1

    def close(self) -> None:
        """Close all; none may be in use."""
        with self._lock:
            while self._held:
                file = self._held.popitem()[1].file
                if file is not None:
                    file.close()

    def _take_superfluous(self) -> list[Open]:
        idle = [key for key, held in self._held.items() if not held.users]
        taken = [self._held.pop(key).file for key in idle[: max(len(self._held) - self.most, 0)]]
        return [file for file in taken if file is not None]
