"""Keeps the computer awake while a run goes on; whatever holds it awake ends with this process, however that ends."""

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)
NO_DESKTOP = "connect to bus"
"""What systemd says where nobody is logged in who could send the computer to sleep."""
ES_CONTINUOUS, ES_SYSTEM_REQUIRED = 0x80000000, 0x00000001
END_SECONDS = 2


@contextmanager
def kept_awake(wanted: bool, why: str) -> Iterator[None]:
    """Let the computer not fall asleep by itself; a lid that is closed still sends it to sleep.

    Args:
        why: shown by the system to who wants to shut it down.
    """
    if not wanted:
        yield
    elif sys.platform == "win32":
        with _windows():
            yield
    else:
        with _process(command(why)):
            yield


def command(why: str) -> list[str] | None:
    """Return the command that keeps this computer awake while it runs; None where there is none."""
    if sys.platform == "darwin":
        return ["caffeinate", "-i", "-w", str(os.getpid())]
    if inhibit := shutil.which("systemd-inhibit"):
        # `cat` ends when this process does, because nobody holds the other end of its input any more
        return [inhibit, "--what=sleep:idle", "--who=RSFM", f"--why={why}", "--mode=block", "cat"]
    return None


@contextmanager
def _process(arguments: list[str] | None) -> Iterator[None]:
    if arguments is None:
        log.warning("The computer may fall asleep during this run: systemd-inhibit is not there to keep it awake.")
        yield
        return
    try:
        holder = subprocess.Popen(
            arguments, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
        )
    except OSError as error:
        log.warning("The computer may fall asleep during this run: %s", error)
        yield
        return
    try:
        yield
    finally:
        _release(holder)


def _release(holder: "subprocess.Popen[bytes]") -> None:
    failed = holder.poll()
    if failed is None:
        holder.terminate()
    try:
        _, said = holder.communicate(timeout=END_SECONDS)
    except subprocess.TimeoutExpired:
        holder.kill()
        return
    if failed:
        text = said.decode(errors="replace").strip()
        level = logging.INFO if NO_DESKTOP in text else logging.WARNING
        log.log(level, "The computer was not kept awake during this run: %s", text)


@contextmanager
def _windows() -> Iterator[None]:
    import ctypes

    kernel = ctypes.windll.kernel32  # type: ignore[attr-defined, unused-ignore]
    if not kernel.SetThreadExecutionState(ES_CONTINUOUS | ES_SYSTEM_REQUIRED):
        log.warning("The computer may fall asleep during this run: Windows refused to keep it awake.")
    try:
        yield
    finally:
        kernel.SetThreadExecutionState(ES_CONTINUOUS)
