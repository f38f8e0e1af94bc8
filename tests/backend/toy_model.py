"""A small model of random weights for tests of maps, and what they compare."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from rsfm import cli, model_file
from rsfm.model_file import Card, ClassName, build_encoder
from rsfm.raster.reader import open_raster
from rsfm.raster.statistics import band_statistics

CLASSES = tuple(
    ClassName(value=value, name=name, colour=colour)
    for value, name, colour in ((1, "one", "#e69f00"), (2, "two", "#56b4e9"), (3, "three", "#009e73"))
)


def make_model(path: Path, raster: Path | str, field: str = "raster", require_crs: bool = True) -> Path:
    """Write a convolutional encoder with a linear head of three classes, for the bands of a raster."""
    torch.manual_seed(0)
    with open_raster(str(raster), field, require_crs) as opened:
        statistics = band_statistics([opened], [opened.grid.window], 0)
        bands, gsd = opened.bands, opened.grid.gsd
    encoder = build_encoder({"name": "conv_small"}, bands)
    card = Card(
        bands=bands, statistics=statistics, gsd=gsd, encoder={"name": "conv_small"}, head={"name": "linear"},
        classes=CLASSES,
    )  # fmt: skip
    from rsfm.networks import make_source

    tensors = model_file.parts(encoder=encoder)
    width = make_source(card.source, model_file.Model(card, tensors)).width
    head = model_file.Model(card, {}).new_head(width)
    torch.nn.init.normal_(head.to_logits.weight)
    model_file.save(path, card, tensors | model_file.parts(head=head))
    return path


def write_config(folder: Path, name: str, **config: Any) -> Path:
    file = folder / f"{name}.json"
    file.write_text(json.dumps(config))
    return file


def run_job(folder: Path, job: str, name: str, **config: Any) -> Path:
    """Do a job to its end and return its outputs."""
    assert cli.main(["run", job, str(write_config(folder, name, **config)), "--run", str(folder / name)]) == 0
    return folder / name / "outputs"


def pixels(path: Path) -> np.ndarray:
    with rasterio.open(path) as file:
        return file.read()


def same(found: Path, expected: Path) -> bool:
    """Tell whether two folders hold rasters of the same names, grids and pixels."""
    names = sorted(path.name for path in expected.glob("*.tif"))
    assert sorted(path.name for path in found.glob("*.tif")) == names
    for name in names:
        with rasterio.open(found / name) as ours, rasterio.open(expected / name) as theirs:
            if (ours.transform, ours.crs, str(ours.nodata)) != (theirs.transform, theirs.crs, str(theirs.nodata)):
                return False
            if not np.array_equal(ours.read(), theirs.read(), equal_nan=True):
                return False
    return True
