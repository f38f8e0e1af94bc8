"""Every method learns in a minute: its loss falls, and what it makes of windows does not become the same for all.

Printed at the end: the loss at the start and at the end, and the deviation of each dimension of the embeddings over
windows, the least, the median and the greatest, beside those of the untrained encoder.

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
from rsfm.method import Method
from rsfm.model_file import build_encoder

FASTER: dict[str, dict[str, Any]] = {
    "moco_v2": {"queue": 256},
    "gassl": {"queue": 256},
}
"""A queue that is full after a few steps: before that the comparison is easy, and the loss rises."""
STEPS, BATCH, FILLED = 90, 32, 10


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scene")
    assert cli.main(["sample", str(folder), "--size", "256"]) == 0
    return sorted(folder.glob("scene_*.tif"))[0]


def train(method: type[Method], scene: Path, folder: Path) -> list[float]:
    """Train with the first preset, and return the loss of each step."""
    flags = [f"--method.{name}={value}" for name, value in FASTER.get(method.name, {}).items()]
    flags += ["--training.minutes", "0", "--training.samples", str(STEPS * BATCH), "--training.batch-size", str(BATCH)]
    flags += ["--rasters", json.dumps([str(scene)]), "--learning-map", "false", "--device", "cpu", "--run", str(folder)]
    assert cli.main(["pretrain", "--preset", method.presets[0].name, *flags]) == 0
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    return [event["value"] for event in events if event["type"] == "metric" and event["name"] == "loss"]


def deviations(encoder: Any, pixels_NCHW: torch.Tensor) -> list[float]:
    """Return the least, the median and the greatest deviation of the dimensions of embeddings of length 1, times the
    root of D: 1 where windows spread over the whole sphere, 0 where all are the same.
    """
    with torch.no_grad():
        features_ND = encoder.eval().embedding(pixels_NCHW)
    unit_ND = torch.nn.functional.normalize(features_ND.float(), dim=1)
    std_D = unit_ND.std(0) * unit_ND.shape[1] ** 0.5
    return [float(std_D.min()), float(std_D.median()), float(std_D.max())]


@pytest.mark.parametrize("name", registry.names(methods))
def test_loss_falls_and_nothing_collapses(name, scene, tmp_path, record_property):
    member = registry.member(methods, name, Method)  # type: ignore[type-abstract]
    losses = train(member, scene, tmp_path / "run")
    quarter = len(losses) // 4
    first, last = np.mean(losses[FILLED : FILLED + quarter]), np.mean(losses[-quarter:])
    file = model_file.load(str(tmp_path / "run" / "outputs" / "encoder.safetensors"))
    with rasterio.open(scene) as raster:
        pixels_CHW = raster.read().astype("float32")
    side = member.presets[0].values["window"]
    side -= side % 8
    corners = [(row, column) for row in range(0, 200, 24) for column in range(0, 200, 24)]
    windows = [pixels_CHW[:, row : row + side, column : column + side] for row, column in corners]
    pixels_NCHW = torch.from_numpy(np.stack(windows))
    normalise = Normalisation.from_statistics(file.card.statistics)
    pixels_NCHW = normalise(pixels_NCHW, torch.ones(len(pixels_NCHW), side, side, dtype=torch.bool))
    torch.manual_seed(0)
    untrained = deviations(build_encoder(file.card.encoder, file.card.bands), pixels_NCHW)
    trained = deviations(file.encoder(), pixels_NCHW)
    told = " ".join(f"{value:.2f}" for value in trained), " ".join(f"{value:.2f}" for value in untrained)
    line = f"{len(losses)} steps, loss {first:.3f} to {last:.3f}, deviation {told[0]} (untrained {told[1]})"
    record_property("learned", f"{name:<9} {line}")
    assert last < first
    assert trained[1] > 0.1, "half of the dimensions are the same for all windows"
