"""Checkpoints: whole or not there, the one before beside the newest, and sentences for those that cannot be used."""

import os
import threading
import time
from typing import Any

import pytest
import torch
from rsfm.errors import Cancelled, UserError
from rsfm.training import checkpoint, tensor_file
from rsfm.training.checkpoint import Position, Training, find, load, snapshot, write
from rsfm.training.checkpoint_writer import CheckpointWriter
from rsfm.training.config import TrainingConfig
from rsfm.training.finite import NotFinite, check_at_once
from rsfm.training.optimizer import make_optimizer
from safetensors import safe_open
from torch import nn


def make(width: int = 4, steps: int = 1, optimizer: str = "adamw") -> Training:
    torch.manual_seed(0)
    method = nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width)).to(memory_format=torch.channels_last)
    training = Training(method, make_optimizer(method, TrainingConfig(optimizer=optimizer)))
    for _ in range(steps):
        advance(training)
    return training


def advance(training: Training) -> float:
    training.optimizer.zero_grad()
    loss = training.method(torch.randn(2, 3, 8, 8)).square().mul(torch.rand(())).sum()
    loss.backward()
    training.optimizer.step()
    return loss.item()


def wait_for_failure(writer: CheckpointWriter) -> None:
    writer.save(Position(1))
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        writer.look()
        time.sleep(0.001)


def cancel(writer: CheckpointWriter, going: threading.Event, halted: threading.Event) -> None:
    writer.save(Position(2))
    assert going.wait(30)
    threading.Timer(0.2, halted.set).start()
    raise Cancelled


def silent(text: str) -> None:
    raise AssertionError(text)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_restored_training_takes_the_next_steps_bit_for_bit(tmp_path, optimizer):
    training = make(steps=3, optimizer=optimizer)
    write(tmp_path, snapshot(training, Position(3, 1.25, 24)))
    expected = [advance(training) for _ in range(3)]
    other = make(steps=0, optimizer=optimizer)
    torch.manual_seed(5)
    assert load(tmp_path, other, silent) == Position(3, 1.25, 24)
    assert [advance(other) for _ in range(3)] == expected
    for ours, theirs in zip(other.method.parameters(), training.method.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_snapshot_does_not_change_when_the_training_goes_on(tmp_path):
    training = make()
    state = snapshot(training, Position(1))
    before = {name: tensor.clone() for name, tensor in state.tensors.items()}
    advance(training)
    assert all(torch.equal(before[name], tensor) for name, tensor in state.tensors.items())


def test_fused_steps_are_those_of_the_plain_optimizer():
    weights = []
    for fused in (True, False):
        torch.manual_seed(0)
        method = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)).to(memory_format=torch.channels_last)
        training = Training(method, make_optimizer(method, TrainingConfig(), fused))
        for _ in range(5):
            for parameter in method.parameters():
                parameter.grad = torch.empty_like(parameter).copy_(torch.randn(parameter.shape))
            training.optimizer.step()
        weights.append(torch.cat([parameter.detach().flatten() for parameter in method.parameters()]))
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-5, atol=1e-6)


def test_the_newest_and_the_one_before_are_kept_and_nothing_else(tmp_path):
    training = make()
    (tmp_path / "last.pt").write_bytes(b"of an earlier version")
    for step in (1, 20, 300):
        write(tmp_path, snapshot(training, Position(step)))
    assert [path.name for path in sorted(tmp_path.iterdir())] == [
        "step_000000020.safetensors",
        "step_000000300.safetensors",
    ]
    assert checkpoint.describe(tmp_path) == "The checkpoint of step 300 is kept."


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_checkpoint_that_is_cut_off_gives_way_to_the_one_before(tmp_path, share):
    training = make()
    write(tmp_path, snapshot(training, Position(1)))
    newest = write(tmp_path, snapshot(training, Position(2)))
    os.truncate(newest, int(newest.stat().st_size * share))
    said: list[str] = []
    assert load(tmp_path, make(steps=0), said.append).step == 1
    assert said == [f"The checkpoint '{newest.name}' is cut off. The run goes on from the one before, step 1."]
    assert find(tmp_path) == [tmp_path / "step_000000001.safetensors"]


def test_without_one_before_a_cut_off_checkpoint_is_a_sentence_and_stays(tmp_path):
    path = write(tmp_path, snapshot(make(), Position(2)))
    os.truncate(path, 100)
    with pytest.raises(UserError, match=r"cut off.*none before it.*Press Run"):
        load(tmp_path, make(), silent)
    assert path.exists()


def test_a_checkpoint_of_another_training_is_a_sentence(tmp_path):
    write(tmp_path, snapshot(make(width=4), Position(2)))
    with pytest.raises(UserError, match=r"another training.*size mismatch.*Press Run"):
        load(tmp_path, make(width=8), silent)


def test_a_checkpoint_of_a_later_version_is_a_sentence(tmp_path):
    state = snapshot(make(), Position(2))
    write(tmp_path, state._replace(values={**state.values, "format": 2}))
    with pytest.raises(UserError, match=r"later than this.*Update the backend"):
        load(tmp_path, make(), silent)


def test_a_checkpoint_of_an_earlier_version_is_restored(tmp_path):
    training = make(steps=2)
    state = {
        "method": training.method.state_dict(),
        "optimizer": training.optimizer.state_dict(),
        "position": (2, 1.5, 16),
        "random": torch.get_rng_state(),
    }
    torch.save(state, tmp_path / "last.pt")
    expected = advance(training)
    other = make(steps=0)
    assert load(tmp_path, other, silent) == Position(2, 1.5, 16)
    assert advance(other) == expected
    (tmp_path / "last.pt").write_bytes(b"nonsense")
    with pytest.raises(UserError, match=r"earlier version cannot be read"):
        load(tmp_path, other, silent)


def test_no_checkpoint_of_weights_that_are_not_finite_is_written_and_the_last_good_one_is_named(tmp_path):
    training = make()
    write(tmp_path, snapshot(training, Position(7)))
    with torch.no_grad():
        next(training.method.parameters())[0, 0, 0, 0] = float("nan")
    with pytest.raises(UserError, match=r"after step 9\. The checkpoint of step 7 is kept\."):
        write(tmp_path, snapshot(training, Position(9)))
    assert [path.name for path in tmp_path.iterdir()] == ["step_000000007.safetensors"]


def test_a_loss_that_is_not_finite_is_refused_at_once_on_a_cpu():
    check_at_once(3, torch.ones(()))
    with pytest.raises(NotFinite, match=r"became nan at step 4"):
        check_at_once(4, torch.tensor(float("nan")))


def test_a_full_disk_leaves_the_checkpoints_that_are_there(tmp_path, monkeypatch):
    training = make()
    write(tmp_path, snapshot(training, Position(1)))

    def full(number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tensor_file.os, "fsync", full)
    with pytest.raises(UserError, match=r"No space left on device.*step 1 is kept"):
        write(tmp_path, snapshot(training, Position(2)))
    assert [path.name for path in tmp_path.iterdir()] == ["step_000000001.safetensors"]


def test_what_fails_in_the_writers_thread_is_raised_by_the_next_look(tmp_path):
    training = make()
    with (
        pytest.raises(UserError, match=r"cannot be written"),
        CheckpointWriter(tmp_path / "gone", training, silent) as writer,
    ):
        wait_for_failure(writer)


def test_leaving_waits_for_the_file_and_cancel_gives_it_up(tmp_path, monkeypatch):
    training = make()
    with CheckpointWriter(tmp_path, training, silent) as writer:
        writer.save(Position(1))
    assert [path.name for path in find(tmp_path)] == ["step_000000001.safetensors"]
    halted, going = threading.Event(), threading.Event()
    write_bytes = tensor_file._bytes

    def slowly(tensor: torch.Tensor) -> Any:
        going.set()
        halted.wait(30)
        return write_bytes(tensor)

    monkeypatch.setattr(tensor_file, "_bytes", slowly)
    with pytest.raises(Cancelled), CheckpointWriter(tmp_path, training, silent) as writer:
        cancel(writer, going, halted)
    assert [path.name for path in tmp_path.iterdir()] == ["step_000000001.safetensors"]


@pytest.mark.parametrize("dtype", tensor_file.DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (3, 5)])
def test_a_written_file_is_what_safetensors_reads(tmp_path, dtype, shape):
    tensor = (torch.rand(shape) * 9).to(dtype)
    path = tmp_path / "file.safetensors"
    tensor_file.write_tensors(path, {"one": tensor, "two": tensor + tensor}, {"note": "text"}, lambda: None)
    with safe_open(path, framework="pt") as file:
        assert file.metadata() == {"note": "text"}
        assert torch.equal(file.get_tensor("one"), tensor)
        assert torch.equal(file.get_tensor("two"), tensor + tensor)
        assert file.get_tensor("two").dtype == dtype
