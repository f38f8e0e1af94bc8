"""What a map will cost, told from maps of parts of it."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from rsfm.errors import UserError
from rsfm.jobs.segment import SegmentConfig
from rsfm.map_trial import _first_raster, _larger, _middle, _Part
from rsfm.planning import plan_job
from rsfm.raster.grid import Window

from .toy_model import make_model, run_job


@pytest.fixture(autouse=True)
def _remembered_here(tmp_path, monkeypatch):
    monkeypatch.setenv("RSFM_DATA", str(tmp_path / "data"))


def test_a_map_is_planned_by_its_tiles_and_the_disk_that_it_will_take(make_raster, tmp_path):
    random = np.random.default_rng(0)
    raster = make_raster(random.integers(1, 3000, (3, 420, 612)).astype("uint16"))
    model = make_model(tmp_path / "model.safetensors", raster)
    config = {"raster": str(raster), "model": str(model), "tiling": {"tile_size": 96, "tile_overlap": 32}}
    found = plan_job("segment", config, tmp_path)
    assert (found.unit, found.device) == ("tiles", "cpu")
    assert found.amount == 7 * 10  # tiles of 96 px, 64 px apart
    assert 0 < found.seconds < 600
    assert found.memory > 10**8
    outputs = run_job(tmp_path, "segment", "whole", **config)
    made = sum(file.stat().st_size for file in outputs.parent.rglob("*") if file.is_file())
    assert 0.7 * made < found.disk < 2.5 * made  # a map lies there twice while it gets its pyramids
    inside = plan_job("segment", {**config, "area": "500000,5099000,501000,5100000"}, tmp_path)
    assert inside.amount < found.amount


def test_a_model_that_cannot_map_is_refused_as_the_run_refuses_it(make_raster, tmp_path):
    raster = make_raster(np.ones((3, 64, 64), "uint16"))
    model = make_model(tmp_path / "model.safetensors", raster)
    other = make_raster(np.ones((5, 64, 64), "uint16"), "other.tif")
    with pytest.raises(UserError, match="bands"):
        plan_job("segment", {"raster": str(other), "model": str(model)}, tmp_path)


def test_of_a_folder_the_pixels_of_all_rasters_count(make_raster, tmp_path):
    folder = tmp_path / "rasters"
    folder.mkdir()
    for name, width in (("a.tif", 64), ("b.tif", 128)):
        make_raster(np.ones((3, 96, width), "uint16"), f"rasters/{name}")
    config = SegmentConfig(raster=str(folder), model="m.safetensors")
    first, window, pixels = _first_raster(config, tmp_path)
    assert first.raster.endswith("a.tif")
    assert pixels == 96 * (64 + 128)
    assert window.height == 96


@pytest.mark.parametrize("seconds", [0.01, 1.0, 60.0])
@pytest.mark.parametrize("size", [(100, 100), (5000, 400), (400, 90_000), (20_000, 20_000)])
def test_parts_lie_inside_and_the_larger_holds_no_fewer_pixels(seconds, size):
    whole = Window(7, 11, *size)
    small = _middle(whole, 512, 512)
    larger = _larger(whole, _Part(small, seconds, seconds, 1000, 10**9), 256)
    for part in (small, larger):
        assert part == part.intersection(whole)
    assert larger.height * larger.width >= small.height * small.width
    assert larger.width >= small.width


def test_the_command_prints_a_table_or_json_and_errors_with_their_field(make_raster, tmp_path, capfd):
    from rsfm import cli

    raster = make_raster(np.random.default_rng(0).integers(1, 3000, (3, 64, 64)).astype("uint16"))
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"rasters": [str(raster)], "training": {"batch_size": 4000}}))
    assert cli.main(["plan", "pretrain", str(file), "--json"]) == 2
    said = json.loads(capfd.readouterr().out)
    assert said["field"] == "training.batch_size"
    assert "Lower 'Batch size'" in said["error"]
    assert cli.main(["plan", "pretrain", str(file)]) == 2
    assert "Error: A step takes 4,000 windows" in capfd.readouterr().err
    assert cli.main(["plan"]) == 2
    assert "rsfm plan JOB CONFIG.json" in capfd.readouterr().err
    assert cli.main(["plan", "pretrain", str(Path(sys.executable) / "none")]) == 2
