"""A run that the user stops has a report as well, of what was learned until then; a cancelled one has none."""

import json
import threading
import time

import pytest
from rsfm import cli, runs

from tests.backend.reports.conftest import VIT
from tests.backend.reports.page import Page

ENDLESS = {"minutes": 0, "epochs": 10000, "batch_size": 16}


def reported(folder):
    """Return the last step that a run has told of."""
    lines = (folder / "events.jsonl").read_text().splitlines() if (folder / "events.jsonl").exists() else []
    return max((json.loads(line)["step"] for line in lines if '"type": "metric"' in line), default=0)


@pytest.fixture
def end_after_some_steps():
    """Run a command that trains without end, and ask for its end once it has told of a new step."""

    def run(command, folder, how):
        before = reported(folder)

        def ask():
            while reported(folder) <= before + 1:
                time.sleep(0.05)
            runs.request_end(folder, how)

        asking = threading.Thread(target=ask)
        asking.start()
        code = cli.main(command)
        asking.join()
        return code

    return run


def test_a_stopped_run_shows_what_it_learned_and_a_resumed_one_all_of_it(tmp_path, fields, end_after_some_steps):
    file, folder = tmp_path / "config.json", tmp_path / "run"
    method = {"name": "mae", "decoder_width": 24, "decoder_depth": 1}
    values = {"rasters": [fields()], "method": method, "encoder": {"name": "vit", **VIT}, "training": ENDLESS}
    file.write_text(json.dumps({**values, "window": 32, "device": "cpu"}))
    command = ["run", "pretrain", str(file), "--run", str(folder)]
    assert end_after_some_steps(command, folder, "stop") == 0
    steps = []
    for again in (False, True):
        if again:
            assert end_after_some_steps(["resume", str(folder)], folder, "stop") == 0
        page = Page(folder / "report.html")
        assert runs.read(folder)["state"] == "stopped"
        assert not page.unclosed
        assert {"ground", "training", "machine", "repeat"} <= set(page.sections)
        ground = json.loads((folder / "shown" / "ground.json").read_text())
        steps.append(ground["steps"])
        assert ground["steps"] == reported(folder)
        assert f"In {ground['steps']:,} steps of 16 windows" in page.sections["ground"]
    assert steps[0] < steps[1]
    assert "Rebuilt" in page.sections["reconstructions"] or "lack of time" in page.sections["reconstructions"]


def test_a_cancelled_run_leaves_no_report(tmp_path, fields, end_after_some_steps):
    file, folder = tmp_path / "config.json", tmp_path / "run"
    values = {"rasters": [fields()], "method": {"name": "moco_v2", "queue": 64}, "training": ENDLESS}
    file.write_text(json.dumps({**values, "encoder": {"name": "conv_small", "width": 32}, "device": "cpu"}))
    command = ["run", "pretrain", str(file), "--run", str(folder)]
    assert end_after_some_steps(command, folder, "stop") == 0
    assert (folder / "report.html").exists()
    assert end_after_some_steps(["resume", str(folder)], folder, "cancel") == 130
    assert not (folder / "report.html").exists()
    assert not (folder / "shown").exists()
