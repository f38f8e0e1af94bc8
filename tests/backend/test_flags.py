"""The command line of a job says what its config says."""

import json

import pytest
from rsfm import cli, jobs, registry
from rsfm.errors import UserError
from rsfm.flags import read_flags
from rsfm.job import Job
from rsfm.jobs.detect_change import DetectChange
from rsfm.jobs.pretrain import Pretrain
from rsfm.jobs.segment import Segment


def test_flags_give_only_what_was_said():
    flags = read_flags(Segment, ["--raster", "a.tif", "--model", "m.safetensors", "--tiling.tile-size", "512"])
    assert flags.values == {"raster": "a.tif", "model": "m.safetensors", "tiling": {"tile_size": 512}} or (
        Segment.Config.model_validate(flags.values).tiling.tile_size == 512
    )
    assert flags.run is None


def test_preset_fills_in_and_a_flag_changes_it():
    preset = next(preset for preset in Pretrain.presets() if preset.name == "quick")
    flags = read_flags(Pretrain, ["--preset", "quick", "--rasters", '["a.tif"]', "--training.minutes", "7"])
    config = Pretrain.Config.model_validate(flags.values)
    assert config.training.minutes == 7
    assert config.training.batch_size == preset.values["training"]["batch_size"]
    assert config.method.name == "moco_v2"


def test_unknown_preset_names_the_known_ones():
    with pytest.raises(UserError, match="quick"):
        read_flags(Pretrain, ["--preset", "slow"])


def test_run_and_json_are_taken_wherever_they_stand():
    flags = read_flags(DetectChange, ["--json", "--before", "a.tif", "--run=here", "--after", "b.tif"])
    assert flags.json
    assert str(flags.run) == "here"


@pytest.mark.parametrize("name", registry.names(jobs))
def test_help_of_every_job_names_every_field(name, capsys):
    job = registry.member(jobs, name, Job)
    with pytest.raises(SystemExit) as ended:
        cli.main([name, "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for field in job.Config.model_fields:
        assert f"--{field.replace('_', '-')}" in text


def test_unknown_command_and_unreadable_config_are_sentences_and_exit_2(capsys, tmp_path):
    assert cli.main(["fly"]) == 2
    assert "segment" in capsys.readouterr().err
    assert cli.main(["run", "segment", str(tmp_path / "none.json")]) == 2
    assert "none.json" in capsys.readouterr().err


def test_user_error_leaves_no_run_behind(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RSFM_RUNS", str(tmp_path / "runs"))
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"raster": str(tmp_path / "none.tif"), "model": "none.safetensors"}))
    assert cli.main(["run", "segment", str(config)]) == 2
    assert "none.safetensors" in capsys.readouterr().err
    assert list((tmp_path / "runs").iterdir()) == []
