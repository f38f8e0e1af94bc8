"""What a job will cost: the counting, what is refused, what is remembered, and how the server answers."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from rsfm import memory, plan
from rsfm.errors import UserError
from rsfm.plan import Facts, check_counts, duration, make_plan, size
from rsfm.planning import plan_job
from rsfm.training.config import TrainingConfig

from .conftest import ServerProcess

FACTS = Facts("windows", 10_000, 100, 0.5, 0.9, 4.0, 3.0, 1.0, 10**9, 0, 10**6, 10**7, 2.0, "cpu")
SMALL = {
    "method": {"name": "mae", "decoder_width": 32, "decoder_depth": 1, "decoder_heads": 2},
    "encoder": {"name": "vit", "width": 32, "depth": 1, "heads": 2, "window": 16, "patch_size": 4},
    "window": 16,
    "training": {"minutes": 1, "batch_size": 8},
}


@pytest.fixture(autouse=True)
def _remembered_here(tmp_path, monkeypatch):
    monkeypatch.setenv("RSFM_DATA", str(tmp_path / "data"))


def training(**values: Any) -> dict[str, Any]:
    return {"training": values}


def test_minutes_are_the_time_and_give_the_steps(tmp_path):
    found = make_plan("pretrain", training(minutes=10, batch_size=100), FACTS, tmp_path)
    assert found.seconds == 4 + 600 + 1
    assert found.steps == pytest.approx(600 / 0.5, rel=0.01)


def test_epochs_are_the_steps_and_give_the_time_with_the_checkpoints(tmp_path):
    found = make_plan("pretrain", training(minutes=0, epochs=20, batch_size=100), FACTS, tmp_path)
    assert found.steps == 20 * 100
    assert found.seconds == 4 + 1000 + 3 * 2.0 + 1


@pytest.mark.parametrize(
    ("windows", "values", "sentence", "field"),
    [
        (50, {"batch_size": 64}, r"64 windows and.* hold 50\. Lower 'Batch size' to 50", "training.batch_size"),
        (2 * 10**9, {}, r"2,000,000,000 windows.*'Window' larger", "window"),
        (500, {"minutes": 0, "epochs": 0}, r"budget is empty", "training.minutes"),
    ],
)  # fmt: skip
def test_absurd_counts_are_refused_in_a_sentence_that_names_the_control(windows, values, sentence, field):
    with pytest.raises(UserError, match=sentence) as caught:
        check_counts(windows, TrainingConfig.model_validate(values))
    assert caught.value.field == field


def test_more_than_a_milliard_of_steps_are_refused(tmp_path):
    many = FACTS._replace(amount=10**8)
    with pytest.raises(UserError, match=r"5,000,000,000 steps. Lower 'Epochs' or 'Samples'"):
        make_plan("pretrain", training(minutes=0, epochs=100, batch_size=2), many, tmp_path)


def test_a_disk_or_a_memory_that_will_be_full_is_said_before(tmp_path):
    free = psutil.disk_usage(str(tmp_path)).free
    full = FACTS._replace(checkpoint=free // 2 + 2**20, memory=psutil.virtual_memory().total * 2)
    warnings = make_plan("pretrain", training(batch_size=100), full, tmp_path / "not" / "made" / "yet").warnings
    assert len(warnings) == 2
    assert "Free some space" in warnings[0]
    assert "lower 'Batch size'" in warnings[1]
    assert make_plan("pretrain", training(batch_size=100), FACTS, tmp_path).warnings == ()


def test_what_is_remembered_holds_for_the_settings_that_cost_and_for_the_file_as_it_is(tmp_path):
    raster = tmp_path / "a.tif"
    raster.write_bytes(b"pixels")
    config = {"rasters": [str(raster)], "window": 40, **training(minutes=3, batch_size=8), "seed": 1}
    plan.remember("pretrain", config, FACTS)
    assert (
        plan.recall("pretrain", {**config, **training(minutes=60, batch_size=8, learning_rate=1), "seed": 2}) == FACTS
    )
    assert plan.recall("pretrain", {**config, "window": 48}) is None
    assert plan.recall("pretrain", {**config, **training(batch_size=16)}) is None
    assert plan.recall("embed", config) is None
    raster.write_bytes(b"other pixels")
    assert plan.recall("pretrain", config) is None


def test_a_damaged_memory_of_plans_is_as_none(tmp_path):
    plan.remembered_file().parent.mkdir(parents=True)
    for text in ("{", "[]", json.dumps({plan.digest("pretrain", {}): {"unit": "windows"}})):
        plan.remembered_file().write_text(text)
        assert plan.recall("pretrain", {}) is None


def test_numbers_are_written_as_people_write_them():
    assert [size(bytes) for bytes in (5e5, 1.13e9, 2.4e10, 3e12)] == ["500 KB", "1.1 GB", "24 GB", "3.0 TB"]
    assert [duration(seconds) for seconds in (40, 700, 12_000, 200_000)] == [
        "40 s",
        "12 min",
        "3 h 20 min",
        "2 days 7 h",
    ]


def test_memory_that_is_available_is_some_and_at_most_all():
    assert 0 < memory.available() <= memory.total() <= psutil.virtual_memory().total
    before = memory.peak()
    held = np.ones(30 * 2**20, np.uint8)
    assert memory.held() >= held.nbytes
    assert memory.peak() >= before


def test_a_pretraining_is_planned_from_its_own_windows_and_steps(noise_raster, tmp_path):
    config = {"rasters": [str(noise_raster)], **SMALL}
    found = plan_job("pretrain", config, tmp_path)
    assert (found.unit, found.amount, found.device) == ("windows", (96 // 16) ** 2, "cpu")
    assert found.steps > 10
    assert found.memory > 10**8
    assert found.disk > 10_000
    facts = plan.recall("pretrain", config)
    assert facts is not None
    assert found.seconds == pytest.approx(facts.start_seconds + 60 + facts.end_seconds)
    assert 0 < facts.start_seconds <= time.time() - psutil.Process().create_time()  # starting the process counts
    assert facts.end_seconds < 60


def test_a_config_that_the_run_would_refuse_is_refused(noise_raster, tmp_path):
    with pytest.raises(UserError) as caught:
        plan_job("pretrain", {"rasters": [str(noise_raster)], "window": -3}, tmp_path)
    assert caught.value.field == "window"
    with pytest.raises(UserError, match="cannot be planned"):
        plan_job("collect", {"rasters": [str(noise_raster)], "name": "x"}, tmp_path)


def test_every_job_that_is_planned_is_there():
    from rsfm import jobs, registry

    assert set(registry.names(jobs)) >= plan.TRAINED | plan.MAPPED


def test_the_server_plans_in_another_process_and_then_at_once_and_answers_others_meanwhile(
    server: ServerProcess, noise_raster: Path, tmp_path: Path
):
    params = {"job": "pretrain", "config": {"rasters": [str(noise_raster)], **SMALL}, "runs_folder": str(tmp_path)}
    assert server.request("plan", **params, measure=False)["result"] is None
    server.send(json.dumps({"jsonrpc": "2.0", "id": 77, "method": "plan", "params": params}).encode() + b"\n")
    assert server.request("list", runs_folder=str(tmp_path))["result"] == []  # before the plan is there
    answer = server.answer(77)
    assert answer["result"]["amount"] == 36
    started = time.monotonic()
    again = server.request("plan", **params, measure=False)
    assert again["result"]["seconds"] == answer["result"]["seconds"]
    assert time.monotonic() - started < 1.5
    maps = Path(f"/proc/{server.process.pid}/maps")
    assert not maps.exists() or "libtorch" not in maps.read_text()
    assert server.request("plan", job="collect", config={}, runs_folder="")["result"] is None


def test_a_newer_question_ends_the_trial_of_the_older(server: ServerProcess, noise_raster: Path, tmp_path: Path):
    config = {"rasters": [str(noise_raster)], **SMALL}
    older = {"job": "pretrain", "config": config, "runs_folder": str(tmp_path)}
    server.send(json.dumps({"jsonrpc": "2.0", "id": 78, "method": "plan", "params": older}).encode() + b"\n")
    deadline = time.monotonic() + 30
    while not psutil.Process(server.process.pid).children() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert psutil.Process(server.process.pid).children()
    server.number = 100
    assert server.request("plan", **{**older, "config": {}}, measure=False)["result"] is None
    given_up = next(message for message in server.events if message.get("id") == 78) if any(
        message.get("id") == 78 for message in server.events
    ) else server.answer(78)  # fmt: skip
    assert given_up["result"] is None
