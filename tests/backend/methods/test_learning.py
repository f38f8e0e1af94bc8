"""Every method learns in a minute: its loss falls, and what it makes of windows does not become the same for all.

Told in the report of the tests: the loss at the start and at the end, and the deviation of each dimension of the
embeddings over windows, the least, the median and the greatest, beside those of the untrained encoder.
The loss is that of fixed windows and draws, against the targets of the end.

Shape letters: N windows, C bands, H rows, W columns, D features.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from rsfm import cli, methods, model_file, registry
from rsfm.blocks.normalisation import Normalisation
from rsfm.method import Method, Sample
from rsfm.model_file import build_encoder
from rsfm.training import loop, pretraining

STEPS = 60
BATCH = {"pera": 12, "satdino": 12}
"""Windows of a step where many views are made of each; others take 32."""
QUEUE = 256
"""A queue that is filled many times in a short run."""


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scene")
    assert cli.main(["sample", str(folder), "--size", "256"]) == 0
    return sorted(folder.glob("scene_*.tif"))[0]


def train(method: type[Method], scene: Path, folder: Path) -> None:
    """Train with the first preset for a short while."""
    batch = BATCH.get(method.name, 32)
    flags = ["--training.minutes", "0", "--training.samples", str(STEPS * batch), "--training.batch-size", str(batch)]
    flags += ["--rasters", json.dumps([str(scene)]), "--learning-map", "false", "--device", "cpu", "--run", str(folder)]
    if "queue" in method.Config.model_fields:
        flags += ["--method.queue", str(QUEUE)]
    assert cli.main(["pretrain", "--preset", method.presets[0].name, *flags]) == 0


def losses(began: dict[str, torch.Tensor], method: Method, pixels_NCHW: torch.Tensor) -> tuple[float, float]:
    """Return the loss of what is trained as it began and as it ended, all else equal.

    Teacher, centre and queue are those of the end for both, and so are windows and draws: what these methods compare
    with moves while they learn, and with it the loss of a step.
    """
    ended = {key: value.clone() for key, value in method.state_dict().items()}
    trained = {key for key, parameter in method.named_parameters() if parameter.requires_grad}
    found = []
    for state in ({key: began[key] if key in trained else value for key, value in ended.items()}, ended):
        method.load_state_dict(state)
        torch.manual_seed(1)
        totals = []
        for part_NCHW in pixels_NCHW.split(27):
            valid_NHW = torch.ones_like(part_NCHW[:, 0], dtype=torch.bool)
            sample = Sample(part_NCHW, valid_NHW, torch.full((len(part_NCHW),), 10.0))
            totals.append(loop.validation_loss(method, sample, 1.0))
        found.append(float(np.mean(totals)))
    return found[0], found[1]


def deviations(encoder: Any, pixels_NCHW: torch.Tensor) -> list[float]:
    """Return the least, the median and the greatest deviation of the dimensions of embeddings of length 1, times the
    root of D: 1 where windows spread over the whole sphere, 0 where all are the same.
    """
    with torch.no_grad():
        features_ND = encoder.eval().embedding(pixels_NCHW)
    unit_ND = torch.nn.functional.normalize(features_ND.float(), dim=1)
    std_D = unit_ND.std(0) * unit_ND.shape[1] ** 0.5
    return [float(std_D.min()), float(std_D.median()), float(std_D.max())]


def windows(scene: Path, side: int) -> torch.Tensor:
    """Cut pixels_NCHW of 81 windows out of the scene."""
    with rasterio.open(scene) as raster:
        pixels_CHW = torch.from_numpy(raster.read().astype("float32"))
    corners = [(row, column) for row in range(0, 200, 24) for column in range(0, 200, 24)]
    return torch.stack([pixels_CHW[:, row : row + side, column : column + side] for row, column in corners])


@pytest.mark.parametrize("name", registry.names(methods))
def test_loss_falls_and_nothing_collapses(name, scene, tmp_path, record_property, monkeypatch):
    seen, build = [], pretraining.build_method

    def watched(*arguments: Any) -> Method:
        method = build(*arguments)
        seen.append((method, {key: value.clone() for key, value in method.state_dict().items()}))
        return method

    monkeypatch.setattr(pretraining, "build_method", watched)
    member = registry.member(methods, name, Method)  # type: ignore[type-abstract]
    train(member, scene, tmp_path / "run")
    file = model_file.load(str(tmp_path / "run" / "outputs" / "encoder.safetensors"))
    pixels_NCHW = windows(scene, member.presets[0].values["window"] // 8 * 8)
    valid_NHW = torch.ones_like(pixels_NCHW[:, 0], dtype=torch.bool)
    pixels_NCHW = Normalisation.from_statistics(file.card.statistics)(pixels_NCHW, valid_NHW)
    method, began = seen[0]
    before, after = losses(began, method, pixels_NCHW)
    torch.manual_seed(0)
    untrained = deviations(build_encoder(file.card.encoder, file.card.bands), pixels_NCHW)
    trained = deviations(file.encoder(), pixels_NCHW)
    told = [" ".join(f"{value:.2f}" for value in values) for values in (trained, untrained)]
    line = f"{name:<9} loss {before:.3f} to {after:.3f}, deviation {told[0]} (untrained {told[1]})"
    print(line)
    record_property("learned", line)
    assert after < 0.97 * before, line
    assert trained[1] > 0.1, f"half of the dimensions are the same for all windows: {line}"
