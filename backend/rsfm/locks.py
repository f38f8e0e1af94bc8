"""Locks on files that the operating system frees when their process ends, however it ends."""

import os
import sys
from pathlib import Path
from typing import IO

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

LOCKED_BYTE = 2**30
"""Windows refuses to read locked bytes: this one lies behind whatever the file holds."""


class FileLock:
    """A file that one process holds at a time.

    Attributes:
        file: open for reading and writing while the lock is held.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file: IO[bytes] | None = None

    def take(self, make: bool = True) -> bool:
        """Take the lock unless another holds it, and tell whether it is held now; never waits.

        Args:
            make: the file where it is absent.

        Raises:
            OSError: the file cannot be opened, or its disk knows no locks.
        """
        handle = os.open(self.path, os.O_RDWR | (os.O_CREAT if make else 0), 0o666)
        file = os.fdopen(handle, "r+b", buffering=0)
        try:
            if sys.platform == "win32":
                file.seek(LOCKED_BYTE)
                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            else:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            file.close()
            return False
        except OSError:
            file.close()
            raise
        self.file = file
        return True

    def release(self) -> None:
        """Give the lock back; the file stays."""
        if self.file is not None:
            self.file.close()
            self.file = None
