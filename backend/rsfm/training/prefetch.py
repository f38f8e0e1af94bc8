"""Makes what comes next in other threads, in order and each once, whatever their number."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from types import TracebackType
from typing import Generic, TypeVar

from rsfm.blocks.pieces import threads_alone

T = TypeVar("T")


class Prefetch(Generic[T]):
    """Results of make(first), make(first + 1) ...; as many are under way as there are threads."""

    def __init__(self, make: Callable[[int], T], first: int, threads: int) -> None:
        """Start at once.

        Args:
            threads: 0 makes each result when it is asked for.
        """
        self._make, self._index = make, first
        self._pool = threads_alone(threads, "prefetch") if threads else None
        self._coming: deque[Future[T]] = deque()
        for _ in range(threads):
            self._submit()

    def __enter__(self) -> "Prefetch[T]":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def take(self) -> T:
        """Return the next result, or raise what its making raised."""
        if self._pool is None:
            self._index += 1
            return self._make(self._index - 1)
        result = self._coming.popleft().result()
        self._submit()
        return result

    def _submit(self) -> None:
        if self._pool is not None:
            self._coming.append(self._pool.submit(self._make, self._index))
            self._index += 1
