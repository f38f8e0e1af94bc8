"""Two processes, of which one is short of memory: both take the same measures, and neither waits for the other."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from .test_ranks import ROOT, environment, free_port

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="the limit of a process's memory is set as Linux has it"),
]
SOON = 200.0


def train_two(folder: Path, limited_at: int) -> tuple[list[int], str]:
    """Return the exit codes and what the first process said at its end."""
    port = free_port()
    command = [sys.executable, "-m", "tests.backend.training.memory_case", str(folder), str(limited_at)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    started = [subprocess.Popen(command, cwd=ROOT, env=environment(2, rank, port), **pipes) for rank in range(2)]
    said = [process.communicate(timeout=SOON)[0] for process in started]
    return [process.returncode for process in started], said[0]


def check_both(folder: Path, least: int) -> None:
    ours, theirs = (torch.load(folder / f"{rank}.pt") for rank in range(2))
    assert ours["parts"] == theirs["parts"] >= least
    for name, value in ours["state"].items():
        assert torch.equal(value, theirs["state"][name]), name


def test_what_one_process_needs_from_the_start_all_do(tmp_path):
    codes, said = train_two(tmp_path, 0)
    assert codes == [0, 0], said
    check_both(tmp_path, 2)
    assert json.loads((tmp_path / "run" / "checkpoints" / "memory.json").read_text())["parts"] >= 2
    warnings = [line for line in (tmp_path / "run" / "events.jsonl").read_text().splitlines() if "is short" in line]
    assert len(warnings) == 1


def test_a_process_that_runs_out_later_ends_all_soon_and_the_resumed_run_computes_in_parts(tmp_path):
    codes, said = train_two(tmp_path, 3)
    assert all(codes), codes
    assert "ran out of the memory of cpu. The checkpoint of step " in said
    assert "Resume the run: each process then computes the 128 windows of its step in 2 parts" in said
    assert json.loads((tmp_path / "run" / "checkpoints" / "memory.json").read_text()) == {"again": False, "parts": 2}
    codes, said = train_two(tmp_path, -1)
    assert codes == [0, 0], said
    check_both(tmp_path, 2)
