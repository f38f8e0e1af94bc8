"""Memory that is freed stays with the process where the C library can be told so."""

import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
import torch
from rsfm.allocator import keep_freed_memory
if sys.argv[1] == "kept" and not keep_freed_memory():
    print(-1)
    sys.exit()
def steps():
    for _ in range(4):
        arrays = [torch.ones(size) for size in (12_000_000, 9_000_000, 300_000)]
        del arrays
steps()
steps()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
steps()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the C library of Linux alone is told")
def test_steps_take_no_new_pages():
    faults = {}
    for how in ("given back", "kept"):
        done = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True)
        faults[how] = int(done.stdout)
    if faults["kept"] < 0:
        pytest.skip("this C library is not glibc")
    assert faults["kept"] * 20 < faults["given back"]
