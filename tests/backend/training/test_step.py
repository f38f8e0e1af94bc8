"""A step that does not fit into memory: what is done so that it does, and that it changes nothing else."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from rsfm import runs
from rsfm.encoder import Encoder
from rsfm.encoders.conv_small import ConvSmall, ConvSmallConfig
from rsfm.errors import UserError
from rsfm.jobs.pretrain import Pretrain, PretrainConfig
from rsfm.method import Dates, Loss, Method, MethodConfig, Sample
from rsfm.runs import Run
from rsfm.training.config import TrainingConfig
from rsfm.training.fit import Fit, compute_again
from rsfm.training.loop import Budget, train
from rsfm.training.pretraining import build_method
from rsfm.training.step import split
from torch import Tensor, nn


class Hungry(Method):
    """Learns from noise that it draws, moves an average, and has memory for some windows only."""

    name, title, Config = "hungry", "Hungry", MethodConfig
    averages, once = ("centre",), ("counted",)

    def __init__(self, config: Any, encoder: Encoder, room: int) -> None:
        super().__init__(config, encoder)
        self.encoder, self.room, self.after = encoder, room, 0
        self.weight = nn.Parameter(torch.ones(3))
        self.register_buffer("centre", torch.zeros(3))
        self.register_buffer("queue", torch.zeros(8, 3))
        self.register_buffer("counted", torch.zeros(()))

    def loss(self, sample: Sample, progress: float) -> Loss:
        mean_B = sample.pixels_BCHW.mean(dim=(1, 2, 3))
        noisy_B3 = mean_B[:, None] + torch.rand(len(mean_B), 3)
        self.centre.mul_(0.9).add_(0.1 * noisy_B3.mean(0))
        self.queue.copy_(torch.cat([self.queue[len(noisy_B3) :], noisy_B3]))
        if len(mean_B) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        total = ((noisy_B3 - self.centre.detach() * 0) * self.weight).square().mean()
        return Loss(total, {"noise": total.detach()}, ("said",))

    def after_step(self, progress: float) -> None:
        self.after += 1


def sample(count: int, bands: int = 1, side: int = 8) -> Sample:
    generator = torch.Generator().manual_seed(3)
    pixels_BCHW = torch.randn(count, bands, side, side, generator=generator)
    return Sample(pixels_BCHW, torch.ones(count, side, side, dtype=torch.bool), torch.full((count,), 10.0))


def learn(folder: Path, method: Method, steps: int = 3, windows: Sample | None = None, **config: Any) -> Run:
    values = {"learning_rate": 0.1, "warmup": 0, "batch_size": 8, "readers": 0, **config}
    run = Run(runs.create(folder, "pretrain", "test", {}))
    fabric = Fabric(accelerator="cpu", devices=1)
    given = windows or sample(8)
    torch.manual_seed(0)
    train(method, lambda step: given, TrainingConfig.model_validate(values), Budget(0, steps, steps), fabric, run)
    return run


def hungry(room: int) -> Hungry:
    return Hungry(MethodConfig(), ConvSmall(ConvSmallConfig(width=32), 1), room)


def warnings(run: Run) -> list[str]:
    lines = (run.folder / "events.jsonl").read_text().splitlines()
    return [event["text"] for event in map(json.loads, lines) if event["type"] == "warning"]


def test_a_step_that_does_not_fit_is_taken_in_halves_to_the_same_weights_buffers_and_random_numbers(tmp_path):
    short, chosen = hungry(2), hungry(100)
    run = learn(tmp_path / "short", short)
    after_short = torch.rand(4)
    learn(tmp_path / "chosen", chosen, at_once=2)
    torch.testing.assert_close(torch.rand(4), after_short, rtol=0, atol=0)
    for name in ("weight", "centre", "queue", "counted"):
        value = chosen.state_dict()[name]
        torch.testing.assert_close(short.state_dict()[name], value, rtol=0, atol=0)
    assert short.after == 3
    said = [text for text in warnings(run) if "parts" in text]
    assert said == [
        "The memory of the computer is short: the 8 windows of a step are computed in 4 parts. Batch norm sees the "
        "windows of one part, 2, at once."
    ]


def test_parts_give_the_step_of_the_whole_batch_also_where_they_are_of_unequal_size(tmp_path):
    whole, parts = hungry(100), hungry(100)
    windows = sample(7)
    learn(tmp_path / "whole", whole, windows=windows, optimizer="sgd")
    learn(tmp_path / "parts", parts, windows=windows, optimizer="sgd", at_once=3)
    torch.testing.assert_close(parts.weight, whole.weight, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(parts.centre, whole.centre, rtol=1e-6, atol=1e-6)


def test_a_resumed_training_knows_the_parts_and_says_nothing_again(tmp_path):
    run = learn(tmp_path, hungry(2))
    again = Fit(hungry(2), TrainingConfig(batch_size=8), run, Fabric(accelerator="cpu", devices=1))
    assert again.measures.parts == 4
    before = len(warnings(run))
    again.tell(8, torch.device("cpu"))
    assert len(warnings(run)) == before


def test_a_window_that_does_not_fit_alone_ends_with_a_sentence_that_names_the_control(tmp_path):
    with pytest.raises(UserError, match=r"Even 1 of 8 windows .* Lower 'Window'") as caught:
        learn(tmp_path, hungry(0))
    assert caught.value.field == "window"


def test_an_error_that_is_not_of_memory_passes(tmp_path):
    class Wrong(Hungry):
        def loss(self, sample: Sample, progress: float) -> Loss:
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        learn(tmp_path, Wrong(MethodConfig(), ConvSmall(ConvSmallConfig(width=32), 1), 1))


def test_the_average_stays_where_the_optimizer_left_a_step_out(tmp_path):
    """Gradients in half precision that overflow are left out; the teacher must not move then."""
    method = hungry(100)
    plugin = MixedPrecision("16-mixed", "cpu", scaler=torch.amp.GradScaler("cpu", init_scale=2.0**127))
    fabric = Fabric(accelerator="cpu", devices=1, plugins=[plugin])
    run = Run(runs.create(tmp_path, "pretrain", "test", {}))
    config = TrainingConfig(batch_size=8, readers=0, warmup=0, clip_norm=0, optimizer="sgd")
    bright = sample(8)._replace(pixels_BCHW=torch.full((8, 1, 8, 8), 100.0))
    train(method, lambda step: bright, config, Budget(0, 2, 2), fabric, run)
    assert method.after == 0
    torch.testing.assert_close(method.weight.detach(), torch.ones(3), rtol=0, atol=0)


def test_a_sample_is_cut_with_its_dates():
    dates = Dates(torch.rand(5, 2, 1, 4, 4), torch.ones(5, 2, 4, 4) > 0, torch.zeros(5, 2, 3), torch.rand(5, 2))
    whole = Sample(torch.rand(5, 1, 4, 4), torch.ones(5, 4, 4) > 0, torch.rand(5), dates)
    parts = split(whole, 2)
    assert [len(part.pixels_BCHW) for part in parts] == [3, 2]
    for index in range(3):
        torch.testing.assert_close(torch.cat([part[index] for part in parts]), whole[index])
    for index in range(4):
        torch.testing.assert_close(torch.cat([part.dates[index] for part in parts if part.dates]), dates[index])
    assert len(split(whole, 9)) == 5


def preset(name: str, **method: Any) -> PretrainConfig:
    values = next(preset.values for preset in Pretrain.presets() if preset.name == name)
    return PretrainConfig.model_validate({**values, "method": {**values["method"], **method}, "rasters": ["none.tif"]})


def gradients(method: Method, windows: Sample) -> dict[str, Tensor]:
    torch.manual_seed(1)
    method.train()
    method.loss(windows, 0.5).total.backward()
    return {name: value.grad for name, value in method.named_parameters() if value.grad is not None}


@pytest.mark.parametrize(
    ("name", "dropped"),
    [("mae_quick", {}), ("pera_quick", {"drop_path": 0.2}), ("satdino_quick", {"drop_path": 0.2}),
     ("data2vec_quick", {}), ("satmae_quick", {})],
)  # fmt: skip
def test_blocks_that_compute_again_give_the_same_gradients_to_the_bit(name, dropped):
    known = {preset.name for preset in Pretrain.presets()}
    assert name in known, known
    config = preset(name, **dropped)
    torch.manual_seed(0)
    keeping = build_method(config.method, config.encoder, 4)
    torch.manual_seed(0)
    forgetting = build_method(config.method, config.encoder, 4)
    compute_again(forgetting)
    windows = sample(4, 4, config.window)
    kept, again = gradients(keeping, windows), gradients(forgetting, windows)
    assert kept.keys() == again.keys()
    for name in kept:
        torch.testing.assert_close(again[name], kept[name], rtol=0, atol=0)
    assert forgetting.state_dict().keys() == keeping.state_dict().keys()


def test_mae_in_parts_has_the_gradients_of_the_whole_batch():
    config = preset("mae_quick")
    torch.manual_seed(0)
    method = build_method(config.method, config.encoder, 4)
    windows = sample(12, 4, config.window)
    whole = gradients(method, windows)
    method.zero_grad()
    torch.manual_seed(1)
    for part in split(windows, 3):
        (method.loss(part, 0.5).total / 3).backward()
    for name, value in method.named_parameters():
        if value.grad is not None:
            torch.testing.assert_close(value.grad, whole[name], rtol=1e-3, atol=1e-6)


def test_groups_of_batch_norm_stay_as_large_in_the_parts_of_a_batch():
    config = preset("quick", bn_groups=4)
    method = build_method(config.method, config.encoder, 1)
    method.parts = 2
    assert method.groups(64) == 2  # type: ignore[operator]
    method.parts = 8
    assert method.groups(16) == 1  # type: ignore[operator]


def test_pera_that_spreads_windows_apart_is_not_computed_in_parts(tmp_path):
    pera = build_method(*(getattr(preset("pera_quick"), part) for part in ("method", "encoder")), 1)
    run = Run(runs.create(tmp_path, "pretrain", "test", {}))
    fit = Fit(pera, TrainingConfig(batch_size=8), run, Fabric(accelerator="cpu", devices=1))
    fit.tighten(8, torch.device("cpu"), "out of memory")
    assert fit.measures == (True, 1)
    with pytest.raises(UserError, match=r"spreads all of them apart. Lower 'Batch size'"):
        fit.tighten(8, torch.device("cpu"), "out of memory")


@pytest.mark.parametrize("name", ["dino_quick", "satdino_quick", "pera_quick"])
def test_buffers_that_are_averaged_exist(name):
    config = preset(name)
    method = build_method(config.method, config.encoder, 1)
    for buffer in method.averages:
        method.get_buffer(buffer)
    assert method.averages


LIMITED = """
import resource, sys
from pathlib import Path
import torch
from rsfm import memory, runs
from rsfm.jobs.pretrain import Pretrain, PretrainConfig
from rsfm.runs import Run
from rsfm.training.pretraining import build_method
from tests.backend.training.test_step import learn, preset, sample, warnings

torch.set_num_threads(1)
config = preset("mae_quick")
torch.manual_seed(0)
method = build_method(config.method, config.encoder, 4)
learn(Path(sys.argv[1]) / "warm", method, 1, sample(4, 4, 32))
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 240 * 2**20,) * 2)
run = learn(Path(sys.argv[1]) / "run", method, 1, sample(128, 4, 32), batch_size=128)
print("\\n".join(warnings(run)))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the limit of a process's memory is set as Linux has it")
def test_a_process_that_may_not_take_more_memory_trains_all_the_same(tmp_path):
    """128 windows at once take 0.4 GB, and the process may take 0.24 GB more, threads and checkpoints included."""
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True, cwd=root, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "The memory of the computer is short" in done.stdout
    assert "128 windows of a step are computed in" in done.stdout


def test_a_full_computer_halves_and_then_goes_on_with_a_word(tmp_path, monkeypatch):
    """The floor is set to all the memory there is, so that the computer counts as full."""
    monkeypatch.setattr("rsfm.training.fit.FLOOR_BYTES", 2**60)
    monkeypatch.setattr("rsfm.training.fit.FLOOR_SHARE", 1.0)
    run = learn(tmp_path, hungry(100))
    assert any("Close other programs" in text for text in warnings(run))
