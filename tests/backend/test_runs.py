"""Run folders: what a reader sees, whatever the writer was doing when it died."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from rsfm import cli, runs
from rsfm.errors import Cancelled, Stopped, UserError
from rsfm.runs import Run


def test_two_runs_of_one_second_get_two_folders(tmp_path):
    made = {runs.create(tmp_path, "pretrain", "a title", {"a": 1}) for _ in range(5)}
    assert len(made) == 5
    assert {run["state"] for run in runs.list_runs(tmp_path)} == {"starting"}


def test_run_whose_process_is_gone_is_lost(tmp_path):
    folder = runs.create(tmp_path, "pretrain", "a title", {})
    runs.update(folder, state="running", pid=2**22 - 1, process_started=0.0)
    assert runs.read(folder)["state"] == "lost"


def test_run_with_a_pid_used_again_by_another_process_is_lost(tmp_path):
    folder = runs.create(tmp_path, "pretrain", "a title", {})
    runs.claim(folder)
    assert runs.read(folder)["state"] == "running"
    runs.update(folder, process_started=1.0)
    assert runs.read(folder)["state"] == "lost"


def test_control_file_ends_a_run_as_the_user_chose(tmp_path):
    run = Run(runs.create(tmp_path, "pretrain", "a title", {}))
    run.check()
    runs.request_end(run.folder, "stop")
    with pytest.raises(Stopped):
        run.check()
    runs.request_end(run.folder, "cancel")
    with pytest.raises(Cancelled):
        run.check()


def test_events_are_one_json_object_a_line_whatever_they_say(tmp_path):
    run = Run(runs.create(tmp_path, "pretrain", "a title", {}))
    run.warning('two\nlines, Ä, \u2028 and "quotes"')
    run.metric("loss", 3, 0.5)
    lines = (run.folder / "events.jsonl").read_bytes().split(b"\n")[:-1]
    assert [json.loads(line)["type"] for line in lines] == ["warning", "metric"]


def test_folder_that_cannot_be_written_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="Settings"):
        runs.create(tmp_path / "file" / "runs", "pretrain", "a title", {})


def test_half_written_run_json_never_replaces_the_old_one(tmp_path):
    folder = runs.create(tmp_path, "pretrain", "a title", {})
    (folder / ".run.json.1.partial").write_text("{ half")
    assert runs.read(folder)["title"] == "a title"


def test_a_run_in_a_relative_folder_tells_of_files_that_are_found_from_elsewhere(tmp_path, monkeypatch, noise_raster):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"rasters": [str(noise_raster)], "name": "here"}))
    assert cli.main(["run", "collect", "config.json", "--run", "mine"]) == 0
    lines = (tmp_path / "mine" / "events.jsonl").read_text().splitlines()
    outputs = [event["path"] for event in map(json.loads, lines) if event["type"] == "output"]
    assert outputs
    assert all(Path(path).is_absolute() for path in outputs)


FILL = """
mount -t tmpfs -o size=1m tmpfs "$1" || exit 77
"$2" -E -s -c "$3" "$1"
"""
END = """
import json, sys
from pathlib import Path
from rsfm import runs, worker
from rsfm.runs import Run
folder = runs.create(Path(sys.argv[1]), "pretrain", "a title", {})
runs.claim(folder)
runs.keep_room(folder)
run = Run(folder, None)
with open(folder / "filler", "wb", buffering=0) as file:
    try:
        while file.write(bytes(512)):
            pass
    except OSError:
        pass
try:
    runs.update(folder, device="cpu")
except OSError as error:
    print(error.strerror)
print(sorted(path.name for path in folder.iterdir() if "partial" in path.name))
worker._end(run, STATE, 0)
print(runs.read(folder)["state"], json.loads((folder / "events.jsonl").read_text().splitlines()[-1])["type"])
"""


@pytest.mark.parametrize("state", ["done", "stopped", "failed"])
def test_a_run_that_ends_on_a_full_disk_is_not_lost(state, tmp_path):
    script = ["unshare", "-rm", "sh", "-c", FILL, "sh", str(tmp_path), sys.executable]
    done = subprocess.run([*script, END.replace("STATE", repr(state))], capture_output=True, text=True, timeout=120)
    if done.returncode in (1, 77) and "Traceback" not in done.stderr:
        pytest.skip("no disk may be mounted here")
    assert done.stdout.splitlines() == ["No space left on device", "[]", f"{state} done"], done.stderr
