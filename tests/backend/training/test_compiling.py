"""A compiled training learns what an uncompiled one learns, and one that cannot be compiled loses nothing."""

import copy
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from rsfm import methods, registry, runs
from rsfm.method import Method
from rsfm.runs import Run
from rsfm.training import compiling
from rsfm.training.checkpoint import Position
from rsfm.training.compiling import Compiling, is_earned, repeated, was_compiled
from rsfm.training.fit import compute_again
from rsfm.training.loop import Budget, train
from rsfm.training.pretraining import build_method
from torch._dynamo.utils import counters
from torch._inductor import config as inductor_config

from .test_resume import Learned, check_same, config_of, cpu, draw
from .test_step import gradients, sample, warnings

NAMES = registry.names(methods)
"""Every method has blocks that are compiled."""


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the blocks be traced and differentiated as ever, and their graphs be computed without C++ or triton."""
    monkeypatch.setattr(compiling, "BACKEND", "aot_eager")
    torch._dynamo.reset()


@pytest.mark.parametrize(
    ("wanted", "device", "processes", "seconds_left", "earned"),
    [
        ("automatic", "cuda", 1, 1200, True),
        ("automatic", "cuda", 1, 1199, False),
        ("automatic", "cuda", 1, 0, False),
        ("automatic", "cuda", 2, 86400, False),
        ("automatic", "cpu", 1, 86400, False),
        ("automatic", "mps", 1, 86400, False),
        ("yes", "cpu", 1, 60, True),
        ("yes", "cuda", 1, 0, True),
        ("yes", "cuda", 4, 86400, False),
        ("no", "cuda", 1, 86400, False),
    ],
)
def test_compiling_is_earned(monkeypatch, wanted, device, processes, seconds_left, earned):
    monkeypatch.setattr(compiling, "_has_triton", lambda: True)
    assert is_earned(wanted, device, processes, seconds_left) is earned


@pytest.mark.parametrize("name", NAMES)
def test_every_method_repeats_blocks_that_hold_most_of_its_encoder(name):
    method = build_method(config_of(name).method, config_of(name).encoder, 3)
    blocks = repeated(method)
    held = sum(p.numel() for block in blocks for p in block.parameters())
    assert len(blocks) == len(set(map(id, blocks)))
    assert held > 0.5 * sum(p.numel() for p in method.encoder.parameters())
    inside = {id(module) for block in blocks for module in block.modules() if module is not block}
    assert not inside & set(map(id, blocks))


class Counted(Learned):
    """A training, what it warned of, and how many graphs were compiled for it."""

    def __init__(self, folder: Path, name: str, wanted: str, stop_after: int | None = None, **training: Any) -> None:
        config = config_of(name, compile=wanted, epochs=2, **training)
        before = counters["stats"]["unique_graphs"]
        super().__init__(folder, config, cpu(), stop_after)
        self.graphs = counters["stats"]["unique_graphs"] - before
        self.warnings = warnings(Run(folder))


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("name", ["mae", "dino", "moco_v2"])
def test_a_compiled_training_has_the_losses_of_an_uncompiled_one(name, tmp_path):
    compiled, plain = Counted(tmp_path / "compiled", name, "yes"), Counted(tmp_path / "plain", name, "no")
    assert compiled.graphs > 0 == plain.graphs
    assert list(compiled.losses.values()) == pytest.approx(list(plain.losses.values()), abs=1e-4)
    assert compiled.losses.keys() == plain.losses.keys()
    assert compiled.state()[0].keys() == plain.state()[0].keys()
    assert not compiled.warnings


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
@pytest.mark.parametrize("name", ["mae", "dino", "moco_v2"])
def test_real_kernels_have_the_losses_of_an_uncompiled_training_and_resume_to_the_bit(name, tmp_path):
    torch._dynamo.reset()
    compiled, plain = Counted(tmp_path / "compiled", name, "yes"), Counted(tmp_path / "plain", name, "no")
    assert compiled.graphs > 0
    assert list(compiled.losses.values()) == pytest.approx(list(plain.losses.values()), abs=1e-4)
    first = Counted(tmp_path / "part", name, "yes", stop_after=2)
    second = Counted(tmp_path / "part", name, "yes")
    assert first.losses | second.losses == compiled.losses
    check_same(second, compiled)


@pytest.mark.usefixtures("traced")
def test_a_compiled_training_that_was_resumed_equals_the_uninterrupted_one_bit_for_bit(tmp_path):
    name = "dino"
    whole = Counted(tmp_path / "whole", name, "yes")
    first = Counted(tmp_path / "part", name, "yes", stop_after=2)
    second = Counted(tmp_path / "part", name, "yes")
    assert whole.graphs > 0
    assert list(first.losses) == [0, 1, 2]
    assert first.losses | second.losses == whole.losses
    check_same(second, whole)


def test_where_there_is_no_compiler_the_training_goes_on_from_the_same_step_with_one_warning(monkeypatch, tmp_path):
    """The real one is asked for, and is not there."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    torch._dynamo.reset()
    with inductor_config.patch({"cpp.cxx": ("no-such-compiler",)}):
        tried = Counted(tmp_path / "tried", "dino", "yes")
    plain = Counted(tmp_path / "plain", "dino", "no")
    assert tried.losses == plain.losses
    check_same(tried, plain)
    assert len(tried.warnings) == 1
    assert tried.warnings[0].startswith("The network could not be compiled (InvalidCxxCompiler: ")


@pytest.mark.usefixtures("traced")
def test_a_compiler_that_runs_out_of_memory_does_not_make_the_batch_smaller(monkeypatch, tmp_path):
    def full(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(compiling, "BACKEND", full)
    tried = Counted(tmp_path / "tried", "mae", "yes")
    assert len(tried.warnings) == 1
    assert "could not be compiled (OSError: [Errno 12] Cannot allocate memory)" in tried.warnings[0]
    assert not (tmp_path / "tried" / "checkpoints" / "memory.json").exists()


@pytest.mark.usefixtures("traced")
def test_an_error_of_the_method_is_raised_as_it_is_without_compiling(tmp_path):
    config = config_of("mae", compile="yes")
    method = build_method(config.method, config.encoder, 4)  # bands that the windows have not
    run = Run(runs.create(tmp_path, "pretrain", "test", {}))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        train(method, lambda step: draw(config, step), config.training, Budget(0, 2, 2), cpu(), run)
    assert not warnings(run)


@pytest.mark.usefixtures("traced")
def test_copies_and_names_know_nothing_of_compiling(tmp_path):
    config = config_of("mae", compile="yes", epochs=1)
    method = build_method(config.method, config.encoder, 3)
    names = list(method.state_dict())
    looked: list[bool] = []

    def look(method: Method, position: Position) -> None:
        copied = copy.deepcopy(method.encoder).eval()
        with torch.no_grad():
            for weight in copied.parameters():
                weight.zero_()
            looked.append(bool(copied.embedding(draw(config, 0).pixels_BCHW).any()))

    run = Run(runs.create(tmp_path, "pretrain", "test", {}))
    train(method, lambda step: draw(config, step), config.training, Budget(0, 2, 2), cpu(), run, watchers=[look])
    assert was_compiled(method)
    assert looked == [False, False], "the copy computed with the weights of the original"
    assert list(method.state_dict()) == names
    assert not was_compiled(copy.deepcopy(method))


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("first", ["compiled", "again"])
def test_compiled_blocks_may_compute_again_on_the_way_back(first, tmp_path):
    config = config_of("dino", compile="yes")
    windows = sample(4, 3, config.window)
    torch.manual_seed(0)
    method = build_method(config.method, config.encoder, 3)
    plain = gradients(copy.deepcopy(method), windows)
    run = Run(runs.create(tmp_path, "pretrain", "test", {}))
    compiling = Compiling(method, config.training, torch.device("cpu"), run)
    if first == "again":
        compute_again(method)
    compiling.consider(0)
    if first == "compiled":
        compute_again(method)
    before = counters["stats"]["unique_graphs"]
    with compiling:
        found = gradients(method, windows)
    assert counters["stats"]["unique_graphs"] > before
    assert was_compiled(method)
    assert found.keys() == plain.keys()
    for name in plain:
        torch.testing.assert_close(found[name], plain[name], rtol=1e-5, atol=1e-7)


def test_the_time_left_is_told_by_the_budget_or_by_the_steps_so_far():
    assert Budget(3600, 0, 10).seconds_left(Position(5, 600, 40)) == 3000
    assert Budget(0, 1000, 10).seconds_left(Position(100, 50, 800)) == 450
    assert Budget(0, 1000, 10).seconds_left(Position(1, 5, 8)) == 0
    assert Budget(0, 1000, 10).seconds_left(Position()) == 0
