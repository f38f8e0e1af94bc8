"""How much memory this process takes, and how much there is: the machine's, or what a cluster gave to its job."""

import sys
from pathlib import Path

import psutil

CGROUP = Path("/sys/fs/cgroup")
MB = 2**20


def available() -> int:
    """Return the bytes that can still be taken without swapping."""
    free = psutil.virtual_memory().available
    return min([free, *(limit - used for limit, used in _groups())])


def total() -> int:
    """Return the bytes that this process could have if it were alone."""
    return min([psutil.virtual_memory().total, *(limit for limit, _ in _groups())])


def peak() -> int:
    """Return the most bytes of memory that this process has held so far."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def held() -> int:
    """Return the bytes of memory that this process holds now."""
    return int(psutil.Process().memory_info().rss)


def _groups() -> list[tuple[int, int]]:
    """Return the limit and the use, caches left out, of each control group around this process that has a limit."""
    try:
        path = Path("/proc/self/cgroup").read_text(encoding="utf-8").strip().rpartition("::")[2]
    except OSError:
        return []
    inside = CGROUP / path.strip("/")
    found = []
    for folder in [inside, *inside.parents]:
        if folder == CGROUP.parent:
            break
        try:
            limit = int((folder / "memory.max").read_text(encoding="utf-8"))
            used = int((folder / "memory.current").read_text(encoding="utf-8"))
            stat = (folder / "memory.stat").read_text(encoding="utf-8").split()
        except (OSError, ValueError):  # "max" is no limit
            continue
        caches = dict(zip(stat[::2], stat[1::2], strict=False)).get("inactive_file", "0")
        found.append((limit, used - int(caches)))
    return found
