"""How this process gets its memory from the system."""

import ctypes
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
"""Parameters of glibc's mallopt."""
LARGE = 2**30
AT_ONCE = 2**26


def keep_freed_memory() -> bool:
    """Let this process keep the memory it frees, for what it needs next.

    Work on batches frees and takes the same large arrays at every step. By default the C library of Linux gives them
    back, and the system clears each page that it hands out again: a third of the time of PerA's views on a processor.

    Returns:
        Whether the C library can be told so: glibc can.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    settings = {_TRIM_THRESHOLD: LARGE, _TOP_PAD: AT_ONCE, _MMAP_THRESHOLD: LARGE}
    return all(mallopt(name, ctypes.c_int(value)) == 1 for name, value in settings.items())
