"""Keeps a limited number of rasters open, the ones used last, so that a collection may have more than a process can."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager

from rsfm.raster.reader import Raster

MOST_OPEN = 64


class _Held:
    """A raster, how many are reading it now, and the lock under which it is opened."""

    def __init__(self) -> None:
        self.raster: Raster | None = None
        self.users = 0
        self.opening = threading.Lock()


class OpenFiles:
    """Rasters that are opened when they are first used and closed when others were used since; threads may share it."""

    def __init__(self, most: int = MOST_OPEN) -> None:
        """Keep at most `most` rasters open, and those in use."""
        self.most = most
        self._lock = threading.Lock()
        self._held: OrderedDict[Hashable, _Held] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    @contextmanager
    def use(self, key: Hashable, open_it: Callable[[], Raster]) -> Iterator[Raster]:
        """Lend a raster, opened by `open_it` unless it still is; it stays open while it is lent."""
        with self._lock:
            held = self._held.setdefault(key, _Held())
            self._held.move_to_end(key)
            held.users += 1
            superfluous = self._take_superfluous()
        for raster in superfluous:
            raster.close()
        try:
            with held.opening:
                if held.raster is None:
                    held.raster = open_it()
            yield held.raster
        finally:
            with self._lock:
                held.users -= 1

    def close(self) -> None:
        """Close all; none may be in use."""
        with self._lock:
            while self._held:
                raster = self._held.popitem()[1].raster
                if raster is not None:
                    raster.close()

    def _take_superfluous(self) -> list[Raster]:
        idle = [key for key, held in self._held.items() if not held.users]
        taken = [self._held.pop(key).raster for key in idle[: max(len(self._held) - self.most, 0)]]
        return [raster for raster in taken if raster is not None]
