"""The protocol, with the real process at the other end of the pipe."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import torch
from rsfm import PROTOCOL, __version__, cli, runs
from rsfm.training import checkpoint
from safetensors.torch import load_file

from .conftest import ServerProcess

ENDED = {"done", "failed", "stopped", "cancelled", "lost"}


def pretrain(raster: Path, minutes: float = 5) -> dict[str, Any]:
    return {"rasters": [str(raster)], "training": {"minutes": minutes, "batch_size": 8}, "window": 40}


def is_done(event: dict[str, Any]) -> bool:
    return event["type"] == "done"


def is_step(event: dict[str, Any]) -> bool:
    return event["type"] == "metric"


def start(server: ServerProcess, tmp_path: Path, raster: Path, **more: Any) -> Path:
    answer = server.request(
        "start", job="pretrain", config=pretrain(raster, **more), runs_folder=str(tmp_path / "runs")
    )
    return Path(answer["result"]["run"])


def test_first_message_names_protocol_version_and_devices(server):
    assert server.hello["method"] == "hello"
    params = server.hello["params"]
    assert (params["protocol"], params["version"]) == (PROTOCOL, __version__)
    assert params["devices"][-1]["name"] == "cpu"


def test_server_answers_within_a_second_because_it_does_not_import_torch():
    started = time.monotonic()
    server = ServerProcess()
    seconds = time.monotonic() - started
    modules = Path(f"/proc/{server.process.pid}/maps")
    loaded = modules.read_text() if modules.exists() else ""
    server.kill()
    assert seconds < 1.5  # 0.3 s on an idle machine; the bound leaves room for a busy one
    assert "libtorch" not in loaded


def test_the_end_of_a_run_is_told_however_long_after_its_record_it_comes(server, tmp_path):
    """A process writes the report between the state in its record and the last event."""
    folder = runs.create(tmp_path, "pretrain", "slow to end", {})
    runs.claim(folder)
    server.request("attach", run=str(folder))
    runs.update(folder, state="stopped", ended=runs.now())
    time.sleep(1)
    runs.Run(folder).emit("done", state="stopped")
    assert server.wait(is_done, 10)["state"] == "stopped"


def test_a_dead_process_that_nobody_has_waited_for_is_lost(tmp_path):
    folder = runs.create(tmp_path, "pretrain", "killed", {})
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = psutil.Process(process.pid).create_time()
    runs.update(folder, state="running", pid=process.pid, process_started=started)
    assert runs.read(folder)["state"] == "running"
    process.kill()
    while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    assert runs.read(folder)["state"] == "lost"
    process.communicate()


def test_stray_prints_do_not_reach_the_protocol():
    code = (
        "import os, threading, rsfm.server as server\n"
        "def noise():\n"
        "    print('stray', flush=True); os.write(1, b'raw stray\\n')\n"
        "threading.Timer(0.2, noise).start()\n"
        "server.serve()\n"
    )
    server = ServerProcess(code)
    time.sleep(0.5)
    assert server.request("devices")["result"]
    assert all("jsonrpc" in message for message in server.events)
    server.kill()


def test_unknown_method_malformed_line_and_wrong_parameters_are_answered_and_survived(server):
    assert server.request("fly")["error"]["code"] == -32601
    server.send(b"{ not json\n")
    assert server.answer(None)["error"]["code"] == -32700
    server.send(b"[1, 2]\n")
    assert server.answer(None)["error"]["code"] == -32600
    assert server.request("stop", wrong=1)["error"]["code"] == -32602
    assert "run.json" in server.request("stop", run="/nowhere")["error"]["message"]
    assert server.request("devices")["result"]


def test_line_of_ten_megabytes_is_answered(server):
    answer = server.request("list", runs_folder="x" * 10_000_000)
    assert "result" in answer or "error" in answer
    assert server.request("devices")["result"]


def test_wrong_parameter_ends_the_run_with_a_sentence_and_the_field(server, tmp_path, noise_raster):
    answer = server.request(
        "start",
        job="pretrain",
        config={"rasters": [str(noise_raster)], "window": 4},
        runs_folder=str(tmp_path / "runs"),
    )
    event = server.wait(lambda event: event["type"] == "error")
    assert event["field"] == "window"
    assert "8" in event["text"]
    server.wait(is_done)
    assert runs.read(Path(answer["result"]["run"]))["state"] == "failed"


def test_stop_keeps_an_encoder_and_acts_in_two_seconds(server, tmp_path, noise_raster):
    folder = start(server, tmp_path, noise_raster)
    server.wait(is_step)
    started = time.monotonic()
    server.request("stop", run=str(folder))
    assert server.wait(is_done)["state"] == "stopped"
    assert time.monotonic() - started < 2
    assert (folder / "outputs" / "encoder.safetensors").exists()
    assert checkpoint.find(folder / "checkpoints")


def test_cancel_discards_and_acts_in_two_seconds(server, tmp_path, noise_raster):
    folder = start(server, tmp_path, noise_raster)
    server.wait(is_step)
    started = time.monotonic()
    server.request("cancel", run=str(folder))
    assert time.monotonic() - started < 2
    assert runs.read(folder)["state"] == "cancelled"
    assert not (folder / "outputs").exists()


def test_killed_server_leaves_the_run_going_and_a_second_server_attaches(tmp_path, noise_raster):
    first = ServerProcess()
    folder = start(first, tmp_path, noise_raster)
    first.wait(is_step)
    first.process.send_signal(signal.SIGKILL)
    first.process.wait()
    worker = psutil.Process(runs.read(folder)["pid"])
    second = ServerProcess()
    listed = second.request("list", runs_folder=str(tmp_path / "runs"))["result"]
    assert [(run["folder"], run["state"]) for run in listed] == [(str(folder), "running")]
    assert second.request("attach", run=str(folder), after=0)["result"]["state"] == "running"
    seen = (folder / "events.jsonl").stat().st_size
    second.wait(is_step)
    deadline = time.monotonic() + 10
    while (folder / "events.jsonl").stat().st_size <= seen and time.monotonic() < deadline:
        time.sleep(0.1)
    assert (folder / "events.jsonl").stat().st_size > seen
    assert worker.is_running()
    second.request("stop", run=str(folder))
    assert second.wait(is_done)["state"] == "stopped"
    second.kill()


def test_worker_that_is_told_to_terminate_stops_and_keeps_its_work(server, tmp_path, noise_raster):
    folder = start(server, tmp_path, noise_raster)
    server.wait(is_step)
    os.kill(runs.read(folder)["pid"], signal.SIGTERM)
    assert server.wait(is_done)["state"] == "stopped"
    assert checkpoint.find(folder / "checkpoints")


def test_killed_worker_is_reported_as_lost(server, tmp_path, noise_raster):
    folder = start(server, tmp_path, noise_raster)
    server.wait(is_step)
    os.kill(runs.read(folder)["pid"], signal.SIGKILL)
    assert server.wait(is_done)["state"] == "lost"
    assert runs.read(folder)["state"] == "lost"


def test_stopped_and_resumed_run_gives_the_weights_of_an_uninterrupted_one_bit_for_bit(server, tmp_path, noise_raster):
    training = {"minutes": 0, "epochs": 60, "batch_size": 4}
    config = {**pretrain(noise_raster), "training": training}
    file = tmp_path / "config.json"
    file.write_text(json.dumps(config))
    assert cli.main(["run", "pretrain", str(file), "--run", str(tmp_path / "whole")]) == 0
    answer = server.request("start", job="pretrain", config=config, runs_folder=str(tmp_path / "runs"))
    folder = Path(answer["result"]["run"])
    server.wait(is_step)
    server.request("stop", run=str(folder))
    assert server.wait(is_done)["state"] == "stopped"
    stopped = int(checkpoint.find(folder / "checkpoints")[0].stem.removeprefix("step_"))
    assert cli.main(["resume", str(folder)]) == 0
    resumed = runs.read(folder)
    assert 0 < stopped < resumed["result"]["steps"] == runs.read(tmp_path / "whole")["result"]["steps"]
    ours, theirs = (load_file(path / "outputs" / "encoder.safetensors") for path in (folder, tmp_path / "whole"))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
