"""Writes small files so that a reader sees the old file or the new one, never half of it, whatever the disk does."""

import os
from pathlib import Path


def write_whole(path: Path, data: bytes, sync: bool = False) -> None:
    """Write a file under another name and rename it; what stood at the path stays until then.

    Args:
        sync: have the disk confirm it first, so that it outlives a loss of power.

    Raises:
        OSError: the disk is full or gone; nothing is left of the new file.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with open(partial, "wb") as file:
            file.write(data)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
