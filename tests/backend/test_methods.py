"""What every method owes its user, run over the folder: a new method is tested with no new line."""

import json
import os
import shutil
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
import rsfm
import torch
from rsfm import curves, methods, registry
from rsfm.jobs.pretrain import PretrainConfig
from rsfm.method import Method, Sample
from rsfm.model_file import build_encoder

NAMES = registry.names(methods)
SMALL = [
    preset.name
    for member in registry.members(methods, Method).values()
    for preset in member.presets
    if not preset.for_gpu
]
EVENING = [
    preset.name
    for member in registry.members(methods, Method).values()
    for preset in member.presets
    if preset.name.endswith("_gpu")
]
VARIANTS = {
    "mae, cells": ("mae_quick", {"hiding": "cells"}),
    "moco_v2, three spaces, bands drop": ("moco_v2_seasons", {"band_drop": 0.3}),
}
CASES = [*SMALL, *VARIANTS]
BANDS = [1, 4, 13]
TOY = '''
"""Toy: make the embedding small."""
from typing import Any, Literal
from rsfm.encoder import Encoder
from rsfm.method import Loss, Method, MethodConfig, Sample


class ToyConfig(MethodConfig):
    """Learns nothing of use."""

    name: Literal["toy"] = "toy"


class Toy(Method):
    name = "toy"
    title = "Toy"
    Config = ToyConfig

    def __init__(self, config: Any, encoder: Encoder) -> None:
        super().__init__(config, encoder)
        self.encoder = encoder

    def loss(self, sample: Sample, progress: float) -> Loss:
        return Loss(self.encoder.embedding(sample.pixels_BCHW).square().mean(), {})
'''


def make(name: str, bands: int) -> tuple[Method, int]:
    """Build a method as a preset or variant says, and the side of its windows."""
    preset, changes = VARIANTS.get(name, (name, {}))
    found = registry.members(methods, Method).values()
    member, values = next((one, own.values) for one in found for own in one.presets if own.name == preset)
    config = member.Config.model_validate({**values["method"], **changes})
    return member(config, build_encoder(values["encoder"], bands)).train(), values["window"]


@pytest.mark.parametrize("name", NAMES)
def test_every_method_has_a_quick_an_evening_and_an_official_preset_that_are_valid(name):
    member = registry.member(methods, name, Method)  # type: ignore[type-abstract]
    quick, *others = member.presets
    assert quick.name in ("quick", f"{name}_quick")
    assert not quick.for_gpu
    assert {f"{name}_gpu", f"{name}_official"} <= {preset.name for preset in others if preset.for_gpu}
    first = next(preset for preset in member.presets if preset.for_gpu)
    assert first.name == f"{name}_gpu", "a form begins with an evening where there is a GPU"
    for preset in member.presets:
        config = PretrainConfig.model_validate({"rasters": ["a.tif"], **preset.values})
        assert (config.training.minutes > 0) == (not preset.name.endswith("_official"))
        assert config.training.warmup <= 0.1 or not config.training.minutes, "a short run warms up for a tenth at most"


def windows(bands: int, side: int, seed: int = 0, invalid: float = 0.0) -> Sample:
    generator = torch.Generator().manual_seed(seed)
    valid_BHW = torch.rand(6, side, side, generator=generator) >= invalid
    pixels_BCHW = torch.randn(6, bands, side, side, generator=generator) * valid_BHW[:, None]
    return Sample(pixels_BCHW, valid_BHW, torch.full((6,), 10.0))


@pytest.mark.parametrize(("name", "bands"), [*product(CASES, BANDS), *product(EVENING, [4])])
def test_loss_is_finite_and_gradients_reach_all_that_is_trained_and_nothing_frozen(name, bands):
    torch.manual_seed(0)
    method, side = make(name, bands)
    loss = method.loss(windows(bands, side), 0.5)
    loss.total.backward()
    assert torch.isfinite(loss.total)
    assert all(value.ndim == 0 and not value.requires_grad for value in loss.parts.values())
    assert set(loss.parts) <= set(curves.MEANINGS), "say in rsfm/curves.py what a new number means"
    for key, parameter in method.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, key
            assert parameter.grad.abs().sum() > 0, key
        else:
            assert parameter.grad is None, key


@pytest.mark.parametrize("name", CASES)
def test_state_restored_gives_the_same_next_loss_bit_for_bit(name):
    torch.manual_seed(0)
    method, side = make(name, 4)
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1)
    for step in range(2):
        optimizer.zero_grad()
        method.loss(windows(4, side, step), step / 3).total.backward()
        optimizer.step()
        method.after_step(step / 3)
    torch.manual_seed(99)
    restored, _ = make(name, 4)
    restored.load_state_dict({key: value.clone() for key, value in method.state_dict().items()})
    totals = []
    for candidate in (method, restored):
        torch.manual_seed(7)
        totals.append(candidate.loss(windows(4, side, 2), 2 / 3).total)
    assert torch.equal(totals[0], totals[1])


@pytest.mark.parametrize("invalid", [0.5, 1.0])
@pytest.mark.parametrize("name", CASES)
def test_nodata_gives_no_nan(name, invalid):
    torch.manual_seed(0)
    method, side = make(name, 4)
    sample = windows(4, side, invalid=invalid)
    sample.valid_BHW[0] = False
    sample.pixels_BCHW[0] = 0
    total = method.loss(sample, 0.0).total
    total.backward()
    assert torch.isfinite(total)
    for key, parameter in method.named_parameters():
        assert parameter.grad is None or torch.isfinite(parameter.grad).all(), key


@pytest.mark.parametrize("name", CASES)
def test_windows_are_left_as_they_were(name):
    torch.manual_seed(0)
    method, side = make(name, 4)
    sample, same = windows(4, side, invalid=0.2), windows(4, side, invalid=0.2)
    method.loss(sample, 0.0)
    pairs = [pair for pair in zip(sample, same, strict=True) if pair[0] is not None]
    assert all(torch.equal(ours, theirs) for ours, theirs in pairs)
    assert len(pairs) >= 3


@pytest.mark.parametrize("name", CASES)
def test_encoder_is_part_of_the_state_under_its_name(name):
    method, _ = make(name, 4)
    kept = {f"encoder.{key}" for key in method.encoder.state_dict()}
    assert kept <= set(method.state_dict())


def test_adding_a_method_is_one_file(tmp_path):
    package = tmp_path / "rsfm"
    shutil.copytree(Path(rsfm.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "methods" / "toy.py").write_text(TOY, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", "import rsfm.cli, sys; sys.exit(rsfm.cli.main(['describe']))"]
    answer = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
    schema = json.loads(answer.stdout)["jobs"]["pretrain"]["schema"]
    assert schema["properties"]["method"]["discriminator"]["mapping"]["toy"] == "#/$defs/ToyConfig"
    assert schema["$defs"]["ToyConfig"]["description"] == "Learns nothing of use."
