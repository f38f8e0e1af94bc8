"""The line before Run, with the real backend."""

import re

import numpy as np
import pytest

from rsfm_qgis.gui.cost_line import duration
from rsfm_qgis.gui.job_panel import JobPanel
from rsfm_qgis.schema import jobs

SMALL = {
    "method": {"name": "mae", "decoder_width": 32, "decoder_depth": 1, "decoder_heads": 2},
    "encoder": {"name": "vit", "width": 32, "depth": 1, "heads": 2, "window": 16, "patch_size": 4},
    "window": 16,
    "training": {"batch_size": 8},
}


@pytest.fixture
def panel(workspace, tmp_path, monkeypatch):
    monkeypatch.setenv("RSFM_DATA", str(tmp_path / "data"))
    made = JobPanel(jobs()["pretrain"], workspace)
    yield made
    made.deleteLater()


def fill(panel, make_raster):
    pixels = np.random.default_rng(0).integers(100, 3000, (3, 96, 96)).astype("uint16")
    panel.form.set_values({"rasters": [str(make_raster(pixels))], **SMALL})


def test_line_says_windows_steps_memory_and_the_hour_and_then_knows_it_at_once(panel, workspace, make_raster, wait):
    fill(panel, make_raster)
    workspace.client.start()
    panel.show()
    wait(lambda: panel.cost.text() == "Measuring\u2026", 60)
    wait(lambda: "done at" in panel.cost.text(), 180)
    assert re.fullmatch(
        r"36 windows \u00b7 [\d,]+ steps \u00b7 \d\.\d GB memory \u00b7 done at .*\d\d:\d\d", panel.cost.text()
    )
    first = panel.cost.text()
    panel.form.set_values({"training": {"minutes": 600}})
    wait(lambda: panel.cost.text() not in {first, "Measuring\u2026"}, 20)
    assert "36 windows" in panel.cost.text()


def test_line_is_empty_where_the_form_lacks_something_and_marks_nothing(panel, workspace, wait):
    workspace.client.start()
    wait(lambda: workspace.client.greeting)
    panel.show()
    panel.cost._ask()
    assert panel.cost.text() == ""
    assert panel.form.first_mark() is None


def test_line_is_empty_without_a_backend_and_starts_none(panel, workspace, make_raster):
    fill(panel, make_raster)
    panel.show()
    panel.cost._ask()
    assert panel.cost.text() == ""
    assert not workspace.client.is_running()


def test_line_says_what_cannot_be_and_drops_answers_to_older_forms(panel, workspace, make_raster, wait):
    fill(panel, make_raster)
    workspace.client.start()
    wait(lambda: workspace.client.greeting)
    panel.show()
    panel.cost._ask()
    assert panel.cost.text() == "Measuring\u2026"
    panel.form.set_values({"training": {"batch_size": 64}})
    wait(lambda: "Batch size" in panel.cost.text(), 180)
    assert "64 windows and the rasters hold 36" in panel.cost.text()


def test_seconds_are_written_as_people_write_them():
    assert [duration(seconds) for seconds in (40, 700, 12_000)] == ["40 s", "12 min", "3 h 20 min"]
