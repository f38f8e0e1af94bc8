"""A training that was interrupted and resumed equals the uninterrupted one to the last bit, on the CPU, in epochs."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import MethodType
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from rsfm import cli, methods, registry, runs
from rsfm.jobs.pretrain import PretrainConfig
from rsfm.method import Loss, Method, Sample
from rsfm.runs import Run
from rsfm.training import checkpoint, loop
from rsfm.training.config import TrainingConfig
from rsfm.training.loop import make_budget, train
from rsfm.training.optimizer import make_optimizer
from rsfm.training.pretraining import build_method
from safetensors import safe_open

NAMES = registry.names(methods)
WINDOWS, BATCH, EPOCHS = 12, 4, 4
TINY = {"width": 16, "depth": 2, "heads": 2, "patch_size": 8, "window": 32}
ENCODERS: dict[str, dict[str, Any]] = {
    "mae": {"name": "vit", **TINY},
    "satmae": {"name": "vit_grouped", **TINY, "group_width": 4, "groups": "1,2; 3"},
    "data2vec": {"name": "vit_relative", **TINY},
    "moco_v2": {"name": "conv_small", "width": 32},
    "gassl": {"name": "conv_small", "width": 32},
}
SMALLER: dict[str, Any] = {
    "prototypes": 64,
    "hidden": 32,
    "bottleneck": 16,
    "queue": 48,
    "decoder_width": 16,
    "decoder_heads": 2,
    "decoder_told": 4,
}
RICHER = {"drop_path": 0.2, "drop_attention": 0.1, "bn_groups": 2, "freeze": 0.2}
"""So that as much as possible depends on random numbers and on where the training stands."""


def config_of(name: str, **training: Any) -> PretrainConfig:
    member = registry.member(methods, name, Method)
    values = member.presets[0].values
    method = values["method"] | {
        key: value for key, value in (SMALLER | RICHER).items() if key in member.Config.model_fields
    }
    encoder = ENCODERS.get(name, {"name": "vit_learned", **TINY, "gsd_token": name == "satdino"})
    budget = {"minutes": 0, "epochs": EPOCHS, "batch_size": BATCH, "warmup": 0.2, "readers": 0, **training}
    return PretrainConfig.model_validate(
        {
            **values,
            "rasters": ["made"],
            "method": method,
            "encoder": encoder,
            "training": values["training"] | budget,
            "seed": 3,
        }
    )


def draw(config: PretrainConfig, step: int) -> Sample:
    """Draw the windows of a step; some pixels are invalid."""
    generator = torch.Generator().manual_seed(step)
    shape = (BATCH, config.window, config.window)
    valid_BHW = torch.rand(shape, generator=generator) > 0.02
    pixels_BCHW = torch.randn(BATCH, 3, *shape[1:], generator=generator) * valid_BHW[:, None]
    return Sample(pixels_BCHW, valid_BHW, torch.full((BATCH,), 10.0))


class Learned:
    """A training in a run's folder: its losses by step, and the bytes of all that it ended with."""

    def __init__(self, folder: Path, config: PretrainConfig, fabric: Fabric, stop_after: int | None = None) -> None:
        torch.manual_seed(config.seed if stop_after else 99 if (folder / "checkpoints").exists() else config.seed)
        self.losses: dict[int, float] = {}
        method = build_method(config.method, config.encoder, 3)
        self._record(method)
        run = Run(folder if folder.exists() else made(folder))
        self.step = 0

        def batch(step: int) -> Sample:
            self.step = step
            if step == stop_after:
                runs.request_end(folder, "stop")
            return draw(config, step)

        try:
            train(method, batch, config.training, make_budget(config.training, WINDOWS), fabric, run)
        except loop.Stopped:
            (folder / "control").unlink()
        self.files = checkpoint.find(folder / "checkpoints")

    def _record(self, method: Method) -> None:
        compute = method.loss

        def loss(_: Method, sample: Sample, progress: float) -> Loss:
            found = compute(sample, progress)
            self.losses[self.step] = found.total.item()
            return found

        method.loss = MethodType(loss, method)  # type: ignore[method-assign]

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Return the tensors and the values of the newest checkpoint, the measured seconds apart."""
        with safe_open(self.files[0], framework="pt") as file:
            values = json.loads(file.metadata()[checkpoint.NOTE])
            values["position"].pop("seconds")
            return {name: file.get_tensor(name) for name in file.keys()}, values  # noqa: SIM118


def made(folder: Path) -> Path:
    return runs.create(folder.parent, "pretrain", "test", {}).rename(folder)


def check_same(ours: Learned, theirs: Learned) -> None:
    (our_tensors, our_values), (their_tensors, their_values) = ours.state(), theirs.state()
    assert our_values == their_values
    assert our_tensors.keys() == their_tensors.keys()
    assert {name.split(".")[0] for name in our_tensors} == {"method", "optimizer", "random"}
    differing = [name for name in their_tensors if not torch.equal(our_tensors[name], their_tensors[name])]
    assert not differing


def cpu(precision: str = "32-true") -> Fabric:
    return Fabric(accelerator="cpu", devices=1, precision=precision)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", NAMES)
def test_stopped_and_resumed_training_equals_the_uninterrupted_one_bit_for_bit(name, tmp_path):
    config = config_of(name)
    whole = Learned(tmp_path / "whole", config, cpu())
    first = Learned(tmp_path / "part", config, cpu(), stop_after=4)
    second = Learned(tmp_path / "part", config, cpu())
    assert list(first.losses) == [0, 1, 2, 3, 4]
    assert list(second.losses) == [5, 6, 7, 8, 9, 10, 11]
    assert first.losses | second.losses == whole.losses
    assert len(set(whole.losses.values())) > 8
    check_same(second, whole)


def test_the_scaler_of_fp16_goes_on_where_it_stood(tmp_path):
    config = config_of("mae")

    def fp16() -> Fabric:
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**24, growth_interval=3)  # overflows, falls, then grows
        return Fabric(accelerator="cpu", devices=1, plugins=[MixedPrecision("16-mixed", "cpu", scaler=scaler)])

    whole = Learned(tmp_path / "whole", config, fp16())
    first = Learned(tmp_path / "part", config, fp16(), stop_after=4)
    scale = first.state()[1]["scaler"]["scale"]
    assert 1 < scale < 2.0**24
    second = Learned(tmp_path / "part", config, fp16())
    assert first.losses | second.losses == whole.losses
    check_same(second, whole)


def test_bf16_resumes_bit_for_bit(tmp_path):
    config = config_of("dino")
    whole = Learned(tmp_path / "whole", config, cpu("bf16-mixed"))
    first = Learned(tmp_path / "part", config, cpu("bf16-mixed"), stop_after=6)
    second = Learned(tmp_path / "part", config, cpu("bf16-mixed"))
    assert first.losses | second.losses == whole.losses
    check_same(second, whole)


@pytest.mark.slow
def test_killed_run_goes_on_from_its_last_checkpoint_to_the_same_bits(tmp_path, noise_raster):
    values = {
        "rasters": [str(noise_raster)],
        "window": 32,
        "method": {"name": "moco_v2", "view_size": 16, "queue": 64, "dimension": 16},
        "encoder": {"name": "conv_small", "width": 32},
        "training": {"minutes": 0, "epochs": 16, "batch_size": 4, "checkpoint_minutes": 0.002},
        "device": "cpu",
    }
    file = tmp_path / "config.json"
    file.write_text(json.dumps(values))
    command = [sys.executable, "-m", "rsfm", "run", "pretrain", str(file), "--run", str(tmp_path / "part")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    checkpoints = tmp_path / "part" / "checkpoints"
    deadline = time.monotonic() + 120
    while len(checkpoint.find(checkpoints)) < 2:
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert cli.main(["run", "pretrain", str(file), "--run", str(tmp_path / "whole")]) == 0
    steps = runs.read(tmp_path / "whole")["result"]["steps"]
    reached = int(checkpoint.find(checkpoints)[0].stem.removeprefix("step_"))
    assert 0 < reached < steps
    assert not (tmp_path / "part" / "outputs" / "encoder.safetensors").exists()
    assert cli.main(["resume", str(tmp_path / "part")]) == 0
    assert runs.read(tmp_path / "part")["result"]["steps"] == steps
    ours, theirs = (Final(tmp_path / name) for name in ("part", "whole"))
    check_same(ours, theirs)


class Final(Learned):
    """What a run of the command line ended with."""

    def __init__(self, folder: Path) -> None:
        self.files = checkpoint.find(folder / "checkpoints")


def test_budget_of_minutes_resumes_the_same_state_and_spends_only_the_rest(tmp_path):
    config = config_of("mae", minutes=0.02, epochs=0)
    first = Learned(tmp_path / "part", config, cpu(), stop_after=2)
    stopped = json.loads(_note(first.files[0]))["position"]["seconds"]
    started = time.monotonic()
    second = Learned(tmp_path / "part", config, cpu())
    assert 0 < stopped < 1.2 <= json.loads(_note(second.files[0]))["position"]["seconds"]
    assert min(second.losses) == 3
    assert time.monotonic() - started >= 1.2 - stopped


def _note(path: Path) -> str:
    with safe_open(path, framework="pt") as file:
        return str(file.metadata()[checkpoint.NOTE])


def test_every_number_of_the_optimizer_is_laid_out_as_its_weight(tmp_path):
    """A fused step takes both in the order of memory, so that another order would mix them up."""
    config = config_of("moco_v2")
    Learned(tmp_path / "run", config, cpu(), stop_after=2)
    method = build_method(config.method, config.encoder, 3).to(memory_format=torch.channels_last)
    optimizer = make_optimizer(method, TrainingConfig())
    checkpoint.load(tmp_path / "run" / "checkpoints", checkpoint.Training(method, optimizer), lambda text: None)
    strides = [(weight.stride(), entries["exp_avg"].stride(), weight) for weight, entries in optimizer.state.items()]
    assert all(weight == moment for weight, moment, _ in strides)
    assert any(not weight.is_contiguous() for _, _, weight in strides)
