"""One thread that does work in the order in which it was given, while the next is prepared."""

import threading
from collections import deque
from collections.abc import Callable
from types import TracebackType

Work = Callable[[], None]

WAITING_BYTES = 2**26
"""Work of at most this size may wait; whoever brings more waits too."""


class Background:
    """Does work in one thread; what it raises comes back to whoever brings the next, or at the end."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Work, int]] = deque()
        self._bytes, self._closing = 0, False
        self._changed = threading.Condition()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def __enter__(self) -> "Background":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()
        if kind is None and self._failure is not None:
            raise self._failure

    def do(self, work: Work, size: int) -> None:
        """Have work done that holds `size` bytes; raises what earlier work raised."""
        with self._changed:
            self._changed.wait_for(lambda: not self._bytes or self._bytes + size <= WAITING_BYTES or self._failure)
            if self._failure is not None:
                raise self._failure
            self._waiting.append((work, size))
            self._bytes += size
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if not self._waiting:
                    return
                work, size = self._waiting.popleft()
            try:
                work()
            except BaseException as failure:  # carried over to the thread that brought the work
                self._end(failure)
                return
            with self._changed:
                self._bytes -= size
                self._changed.notify_all()

    def _end(self, failure: BaseException) -> None:
        with self._changed:
            self._failure = failure
            self._waiting.clear()
            self._changed.notify_all()
