"""The protocol with the real server, its death included."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from rsfm_qgis import settings
from rsfm_qgis.client import BackendClient
from rsfm_qgis.runs import RunList


@pytest.fixture
def scene(make_raster):
    """Two dates that are alike but for a square."""
    random = np.random.default_rng(0)
    before = random.integers(500, 2500, (3, 96, 96)).astype("uint16")
    after = before + random.integers(0, 40, before.shape).astype("uint16")
    after[:, 20:40, 20:40] += 3000
    return {"before": str(make_raster(before, "before.tif")), "after": str(make_raster(after, "after.tif"))}


def start(workspace, config, answers, job="detect_change"):
    workspace.runs.start(job, config, f"{job} · test", lambda result, error: answers.append((result, error)))


def test_server_greets_with_its_devices(workspace, wait):
    workspace.client.start()
    wait(lambda: workspace.client.greeting)
    assert workspace.client.devices[-1]["name"] == "cpu"
    assert workspace.client.greeting["protocol"] == 1


def test_requests_before_the_greeting_are_answered_in_order(workspace, wait):
    answers = []
    for number in range(5):
        workspace.client.request(
            "list", {"runs_folder": f"/nowhere/{number}"}, lambda *a, n=number: answers.append((n, a))
        )
    wait(lambda: len(answers) == 5)
    assert [number for number, _ in answers] == list(range(5))
    assert all(answer == ([], None) for _, answer in answers)


def test_unknown_method_is_answered_with_an_error_in_words(workspace, wait):
    answers = []
    workspace.client.request("dance", {}, lambda *answer: answers.append(answer))
    wait(lambda: answers)
    assert "dance" in answers[0][1]["message"]


def test_run_is_followed_to_its_end_with_its_outputs(workspace, wait, scene):
    answers, ended = [], []
    workspace.runs.ended.connect(ended.append)
    start(workspace, scene, answers)
    wait(lambda: ended, 60)
    run = workspace.runs.get(ended[0])
    assert (run.state, run.error) == ("done", "")
    assert {"change", "magnitude"} <= {output.kind for output in run.outputs}
    assert all(Path(output.path).is_file() for output in run.outputs)
    assert Path(run.folder).parent == Path(settings.read(settings.RUNS_FOLDER))


def test_bad_input_fails_with_a_sentence_and_the_parameter(workspace, wait, scene):
    ended = []
    workspace.runs.ended.connect(ended.append)
    start(workspace, {**scene, "after": "/nowhere/after.tif"}, [])
    wait(lambda: ended, 60)
    run = workspace.runs.get(ended[0])
    assert run.state == "failed"
    assert "after.tif" in run.error
    assert run.error_field == "after"


def test_killed_server_loses_no_run(workspace, wait, scene):
    answers, ended = [], []
    workspace.runs.ended.connect(ended.append)
    start(workspace, scene, answers)
    wait(lambda: answers)
    first = workspace.client.greeting["pid"]
    os.kill(first, signal.SIGKILL)
    wait(lambda: ended, 60)
    assert workspace.client.greeting["pid"] != first
    run = workspace.runs.get(answers[0][0]["run"])
    assert run.state == "done"
    kinds = [output.kind for output in run.outputs]
    assert sorted(kinds) == sorted(set(kinds))
    assert "change" in kinds


def test_second_qgis_sees_the_run_of_the_first(workspace, wait, scene):
    answers, ended = [], []
    start(workspace, scene, answers)
    wait(lambda: answers)
    workspace.client.close()
    client = BackendClient()
    runs = RunList(client, workspace.project)
    runs.ended.connect(ended.append)
    client.start()
    wait(lambda: ended or (runs.all() and not runs.all()[0].is_live), 60)
    assert [run.folder for run in runs.all()] == [answers[0][0]["run"]]
    assert runs.all()[0].state == "done"
    client.close()


def test_run_whose_process_was_killed_is_shown_as_lost(workspace, wait, scene):
    answers, ended = [], []
    workspace.runs.ended.connect(ended.append)
    start(workspace, scene, answers)
    wait(lambda: answers)
    folder = Path(answers[0][0]["run"])

    def pid():
        from rsfm_qgis.records import read_run

        return read_run(folder).get("pid")

    wait(pid)
    os.kill(pid(), signal.SIGKILL)
    wait(lambda: ended)
    assert workspace.runs.get(str(folder)).state == "lost"


def test_lost_run_can_be_resumed(workspace, wait, scene):
    ended = []
    workspace.runs.ended.connect(ended.append)
    start(workspace, {**scene, "after": "/nowhere/after.tif"}, [])
    wait(lambda: ended, 60)
    folder = Path(ended.pop())
    (folder / "config.json").write_text(str(scene).replace("'", '"'), encoding="utf-8")
    assert workspace.runs.resume(str(folder))
    wait(lambda: ended, 60)
    assert workspace.runs.get(str(folder)).state == "done"


def test_absent_backend_is_said_in_a_sentence(workspace, monkeypatch):
    monkeypatch.setenv("RSFM_PYTHON", "/nowhere/python")
    reasons, answers = [], []
    workspace.client.stopped.connect(reasons.append)
    workspace.client.request("devices", {}, lambda *answer: answers.append(answer))
    assert "not installed" in reasons[0]
    assert "Options" in reasons[0]
    assert answers[0][1]["message"] == reasons[0]


def test_python_without_the_backend_is_said_with_its_own_words(workspace, monkeypatch, wait):
    monkeypatch.setenv("RSFM_PYTHON", "/usr/bin/python3")
    reasons = []
    workspace.client.stopped.connect(reasons.append)
    workspace.client.start()
    wait(lambda: reasons)
    assert "No module named" in reasons[0]


def test_another_protocol_is_refused_in_words(workspace, monkeypatch, wait, tmp_path):
    speaker = tmp_path / "python"
    speaker.write_text('#!/bin/sh\necho \'{"method": "hello", "params": {"protocol": 99, "version": "9.0"}}\'\ncat\n')
    speaker.chmod(0o755)
    monkeypatch.setenv("RSFM_PYTHON", str(speaker))
    reasons = []
    workspace.client.stopped.connect(reasons.append)
    workspace.client.start()
    wait(lambda: reasons)
    assert "99" in reasons[0]
    assert "Update the plugin" in reasons[0]
    assert not workspace.client.is_running()


def test_closed_client_leaves_no_process(workspace, wait):
    workspace.client.start()
    wait(lambda: workspace.client.greeting)
    pid = workspace.client.greeting["pid"]
    workspace.client.close()
    wait(lambda: not Path(f"/proc/{pid}").exists(), 60)
    assert not workspace.client.is_running()


def test_message_in_pieces_is_one_message(workspace, monkeypatch, wait, tmp_path):
    speaker = tmp_path / "python"
    hello = '{"method": "hello", "params": {"protocol": 1, "version": "é", "devices": []}}'
    speaker.write_text(
        "#!/usr/bin/python3\nimport sys, time\n"
        f"data = {hello!r}.encode() + b'\\n'\n"
        "for index in range(0, len(data), 7):\n"
        "    sys.stdout.buffer.write(data[index:index + 7]); sys.stdout.flush(); time.sleep(0.005)\n"
        "sys.stdin.read()\n",
        encoding="utf-8",
    )
    speaker.chmod(0o755)
    monkeypatch.setenv("RSFM_PYTHON", str(speaker))
    workspace.client.start()
    wait(lambda: workspace.client.greeting)
    assert workspace.client.greeting["version"] == "é"
