"""The queue in front of a device: order, death, stop, and what a waiting run says. Others are real processes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rsfm import cli, device_queue, runs
from rsfm.device_queue import Place, Queue, place_for
from rsfm.devices import list_devices
from rsfm.errors import Stopped
from rsfm.runs import Run

from .conftest import ServerProcess
from .test_server import is_done, is_step, pretrain, start

HOLD = """
import sys, time
from pathlib import Path
from rsfm import device_queue, runs
from rsfm.device_queue import Place
run = runs.Run(Path(sys.argv[1]))
runs.claim(run.folder)
with device_queue.turn(run, Place(tuple(sys.argv[2].split(",")), int(sys.argv[3]))) as devices:
    run.progress(0.62, "step 3", 2400)
    print(*devices, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def queue(tmp_path, monkeypatch):
    monkeypatch.setenv("RSFM_DATA", str(tmp_path / "data"))
    return tmp_path / "data" / "queue"


class Holder:
    """A process that waits for devices and holds them until it is told to go."""

    def __init__(self, folder, devices, many=1, title="other"):
        self.run = runs.create(folder / "runs", "pretrain", title, {})
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(self.run), devices, str(many)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def devices(self):
        return self.process.stdout.readline().split()

    def go(self):
        self.process.communicate(timeout=60)


def make_run(folder, title="mine"):
    return Run(runs.create(folder / "runs", "pretrain", title, {}))


def until(is_true, seconds=30):
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_runs_take_turns_in_order_of_arrival(queue, tmp_path):
    first = Holder(tmp_path, "gpu")
    assert first.devices() == ["gpu"]
    others = []
    for number in range(3):
        others.append(Holder(tmp_path, "gpu", title=str(number)))
        until(lambda: runs.read(others[-1].run)["state"] == "waiting")
    first.go()
    for number, holder in enumerate(others):
        assert holder.devices() == ["gpu"]
        assert [runs.read(other.run)["state"] for other in others[number + 1 :]] == ["waiting"] * (2 - number)
        holder.go()
    assert not list(queue.glob("*.ticket"))


def test_nobody_waits_for_a_dead_process(queue, tmp_path):
    first = Holder(tmp_path, "gpu")
    first.devices()
    second = Holder(tmp_path, "gpu")
    until(lambda: runs.read(second.run)["state"] == "waiting")
    first.process.send_signal(signal.SIGKILL)
    assert second.devices() == ["gpu"]
    assert runs.read(second.run)["state"] == "running"
    second.go()


def test_a_halted_process_still_holds_its_device(queue, tmp_path):
    first = Holder(tmp_path, "gpu")
    first.devices()
    first.process.send_signal(signal.SIGSTOP)
    run = make_run(tmp_path)
    runs.request_end(run.folder, "stop")
    with pytest.raises(Stopped), device_queue.turn(run, Place(("gpu",))):
        raise AssertionError("the device was held twice")
    first.process.send_signal(signal.SIGCONT)
    first.go()


def test_runs_on_different_devices_do_not_wait_and_auto_takes_the_one_that_is_free(queue, tmp_path):
    first = Holder(tmp_path, "gpu0,gpu1")
    assert first.devices() == ["gpu0"]
    second = Holder(tmp_path, "gpu0,gpu1")
    assert second.devices() == ["gpu1"]
    third = Holder(tmp_path, "gpu0,gpu1")
    until(lambda: runs.read(third.run)["state"] == "waiting")
    second.go()
    assert third.devices() == ["gpu1"]
    first.go()
    third.go()


def test_a_run_on_two_devices_is_not_overtaken_by_later_runs_on_one(queue, tmp_path):
    first = Holder(tmp_path, "gpu0")
    first.devices()
    wide = Holder(tmp_path, "gpu0,gpu1", many=2)
    until(lambda: runs.read(wide.run)["state"] == "waiting")
    late = Holder(tmp_path, "gpu1")
    until(lambda: runs.read(late.run)["state"] == "waiting")
    first.go()
    assert wide.devices() == ["gpu0", "gpu1"]
    assert runs.read(late.run)["state"] == "waiting"
    wide.go()
    assert late.devices() == ["gpu1"]
    late.go()


def test_many_at_once_never_hold_a_device_together(queue, tmp_path):
    """Each of eight processes marks that it is inside, five times; the mark is a file that must not exist."""
    code = (
        "import os, sys, time\nfrom pathlib import Path\nfrom rsfm.device_queue import Place, Queue\n"
        "for _ in range(5):\n"
        "    queue = Queue(Path(sys.argv[1])); mine = queue.enter(Path('x'), Place(('gpu',)))\n"
        "    while queue.advance(mine, Place(('gpu',))) is None: time.sleep(0.001)\n"
        "    os.close(os.open(sys.argv[2], os.O_CREAT | os.O_EXCL)); os.unlink(sys.argv[2])\n"
        "    queue.leave()\n"
    )
    command = [sys.executable, "-c", code, str(queue), str(tmp_path / "inside")]
    assert [process.wait() for process in [subprocess.Popen(command) for _ in range(8)]] == [0] * 8


def test_a_waiting_run_says_behind_what(queue, tmp_path):
    first = Holder(tmp_path, "gpu", title="Pretrain · MoCo v2")
    first.devices()
    second = Holder(tmp_path, "gpu", title="b")
    until(lambda: runs.read(second.run)["state"] == "waiting")
    third = Holder(tmp_path, "gpu", title="c")
    until(lambda: runs.read(third.run)["state"] == "waiting")
    behind = "Waits behind 'Pretrain · MoCo v2', 62 %, about 40 min left"
    assert [runs.read(each.run)["waits"] for each in (second, third)] == [f"{behind}.", f"{behind}, and 1 more."]
    for each in (first, second, third):
        each.go()


def test_a_queue_that_cannot_be_used_holds_nobody_up(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RSFM_DATA", str(tmp_path / "file"))
    run = make_run(tmp_path)
    with device_queue.turn(run, Place(("gpu0", "gpu1"))) as devices:
        assert devices == ("gpu0",)
    assert "cannot wait" in (run.folder / "events.jsonl").read_text()


def test_on_the_cpu_only_long_runs_wait(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert place_for("auto", waits_on_cpu=False) is None
    assert place_for("auto", waits_on_cpu=True) == Place(("cpu",))
    assert place_for("cuda", waits_on_cpu=False) == Place(("cuda:0",))


def test_processes_of_one_run_take_one_place_with_a_gpu_each(monkeypatch, tmp_path):
    program = tmp_path / "nvidia-smi"
    lines = "".join(
        f"{index}, GPU-{index}a, A{index}, 8000, {free}, 550.1\\n" for index, free in enumerate((10, 7000, 5000))
    )
    program.write_text(f"#!/bin/sh\nprintf '{lines}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert place_for("auto", False) == Place(("GPU-1a", "GPU-2a", "GPU-0a"))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert place_for("auto", False) == Place(("GPU-0a", "GPU-1a"), 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,1")
    assert place_for("cuda:0", False) == Place(("GPU-2a",))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-1a")
    assert [device["title"] for device in list_devices()][:-1] == ["A1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert [device["name"] for device in list_devices()] == ["cpu"]


def test_second_training_waits_across_servers_says_so_and_stops_in_two_seconds(queue, tmp_path, noise_raster):
    first, second = ServerProcess(), ServerProcess()
    ahead = start(first, tmp_path, noise_raster)
    first.wait(is_step)
    waiting = start(second, tmp_path, noise_raster)
    said = second.wait(lambda event: event["type"] == "waiting")
    assert said["message"].startswith("Waits behind 'pretrain'")
    assert "min left" in said["message"]
    second.kill()  # what waits outlives its server
    listed = {
        run["folder"]: run["state"] for run in first.request("list", runs_folder=str(tmp_path / "runs"))["result"]
    }
    assert listed == {str(ahead): "running", str(waiting): "waiting"}
    first.request("attach", run=str(waiting))
    started = time.monotonic()
    first.request("stop", run=str(waiting))
    until(lambda: runs.read(waiting)["state"] == "stopped")
    assert time.monotonic() - started < 2
    third = start(first, tmp_path, noise_raster)
    until(lambda: runs.read(third)["state"] == "waiting")
    started = time.monotonic()
    first.request("cancel", run=str(third))
    assert time.monotonic() - started < 2
    assert runs.read(third)["state"] == "cancelled"
    fourth = start(first, tmp_path, noise_raster)
    until(lambda: runs.read(fourth)["state"] == "waiting")
    os.kill(runs.read(ahead)["pid"], signal.SIGKILL)
    until(lambda: '"metric"' in (fourth / "events.jsonl").read_text())
    assert runs.read(fourth)["state"] == "running"
    first.request("cancel", run=str(fourth))
    first.kill()


def test_command_line_says_what_it_waits_for_and_refuses_when_asked(queue, tmp_path, noise_raster):
    holder = Holder(tmp_path, "cpu", title="Pretrain · MAE")
    holder.devices()
    config = tmp_path / "config.json"
    config.write_text(json.dumps({**pretrain(noise_raster, 0.02), "device": "cpu"}))
    command = [sys.executable, "-m", "rsfm", "run", "pretrain", str(config), "--run"]
    refused = subprocess.run([*command, str(tmp_path / "no"), "--no-wait"], capture_output=True, text=True)
    assert refused.returncode == 2
    assert "Waits behind 'Pretrain · MAE', 62 %" in refused.stderr
    assert not (tmp_path / "no").exists()
    waits = subprocess.Popen([*command, str(tmp_path / "yes")], stderr=subprocess.PIPE, text=True)
    assert waits.stderr.readline().startswith("Waits behind 'Pretrain · MAE'")
    holder.go()
    assert waits.wait() == 0
    waits.stderr.close()
    assert runs.read(tmp_path / "yes")["state"] == "done"


def test_a_run_that_is_not_to_queue_starts_at_once(queue, tmp_path, noise_raster, monkeypatch):
    taken = Queue(queue)
    taken.enter(tmp_path, Place(("cpu",)))
    monkeypatch.setenv("RSFM_QUEUE", "never")
    config = tmp_path / "config.json"
    config.write_text(json.dumps({**pretrain(noise_raster, 0.005), "device": "cpu"}))
    assert cli.main(["run", "pretrain", str(config), "--run", str(tmp_path / "run")]) == 0
    taken.leave()


def test_time_in_the_queue_is_no_work(queue, tmp_path):
    run = make_run(tmp_path)
    runs.claim(run.folder)
    run.wait("Waits behind 'b'.")
    time.sleep(0.3)
    assert runs.worked_seconds(runs.read(run.folder), run.folder) < 0.25
    run.go_on()
    time.sleep(0.3)
    run.note("a finding")
    assert 0.25 < runs.worked_seconds(runs.read(run.folder), run.folder) < 5


def test_a_run_is_done_by_one_process_at_a_time(tmp_path, noise_raster, server):
    folder = start(server, tmp_path, noise_raster)
    server.wait(is_step)
    second = subprocess.run([sys.executable, "-m", "rsfm", "work", str(folder)], capture_output=True, text=True)
    assert second.returncode == 2
    assert "still going on" in second.stderr
    assert runs.read(folder)["state"] == "running"
    server.request("stop", run=str(folder))
    server.wait(is_done)


def test_stop_pressed_before_the_process_came_up_counts(tmp_path, noise_raster):
    folder = runs.create(Path(tmp_path), "pretrain", "t", pretrain(noise_raster))
    runs.request_end(folder, "stop")
    done = subprocess.run([sys.executable, "-m", "rsfm", "work", str(folder)], timeout=60)
    assert done.returncode == 0
    assert runs.read(folder)["state"] == "stopped"
