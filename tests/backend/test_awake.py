"""The computer is kept awake by a process of the system's that ends with the run, however the run ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rsfm import awake
from rsfm.awake import kept_awake

INHIBIT = """#!/bin/sh
echo "$@" > "$SAID"
while [ "${1#--}" != "$1" ]; do shift; done
exec "$@"
"""
"""What systemd-inhibit does but for the wish itself: it runs a command, and ends with it."""
RUN = """
import sys
from rsfm.awake import kept_awake
with kept_awake(True, "why"):
    print(1, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def said(tmp_path, monkeypatch):
    if sys.platform != "linux":
        pytest.skip("Linux's way to stay awake")
    program = tmp_path / "systemd-inhibit"
    program.write_text(INHIBIT)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("SAID", str(tmp_path / "said"))
    return tmp_path / "said"


def wait_for(path):
    deadline = time.monotonic() + 10
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return path.read_text()


def holders(parent):
    """Return the processes that keep the computer awake for another."""
    listed = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True).stdout.splitlines()
    return [int(line.split()[0]) for line in listed if line.split()[1] == str(parent) and line.split()[2] == "cat"]


def test_asked_for_while_the_run_goes_on_and_no_longer(said):
    with kept_awake(True, "Run 'a' goes on"):
        assert "--what=sleep:idle --who=RSFM --why=Run 'a' goes on --mode=block cat" in wait_for(said)
        assert len(holders(os.getpid())) == 1
    assert holders(os.getpid()) == []


def test_released_when_the_run_raises(said):
    def fail():
        with kept_awake(True, "why"):
            wait_for(said)
            raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        fail()
    assert holders(os.getpid()) == []


def test_released_when_the_run_is_killed(said):
    run = subprocess.Popen([sys.executable, "-c", RUN], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert run.stdout.readline()
    wait_for(said)
    deadline = time.monotonic() + 10
    while not (found := holders(run.pid)):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    run.send_signal(signal.SIGKILL)
    run.wait()
    while Path(f"/proc/{found[0]}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    run.stdin.close()
    run.stdout.close()


def test_not_asked_for_when_the_user_does_not_want_it(said):
    with kept_awake(False, "why"):
        pass
    assert not said.exists()


def test_a_system_that_refuses_is_noted_and_the_run_goes_on(said, tmp_path, caplog):
    (tmp_path / "systemd-inhibit").write_text("#!/bin/sh\necho 'Access denied' >&2\nexit 1\n")
    with kept_awake(True, "why"):
        time.sleep(0.3)
    assert "not kept awake during this run: Access denied" in caplog.text


def test_a_system_without_such_a_program_is_noted_and_the_run_goes_on(monkeypatch, caplog):
    monkeypatch.setenv("PATH", "/nowhere")
    with kept_awake(True, "why"):
        pass
    assert "may fall asleep" in caplog.text


def test_macos_ends_its_own_program_with_the_run(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert awake.command("why") == ["caffeinate", "-i", "-w", str(os.getpid())]
