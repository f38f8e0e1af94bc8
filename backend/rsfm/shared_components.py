"""Principal components for several rasters, so that a colour means the same on all of them.

Shape letters: N sampled cells, D features.
"""

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsfm import model_file
from rsfm.devices import choose_device
from rsfm.embedding import SAMPLED_CELLS, SAMPLED_TILES, Basis, embed, fit_components, keep_basis, sample_features
from rsfm.errors import UserError
from rsfm.jobs.embed import EmbedConfig
from rsfm.mapping import Place
from rsfm.model_file import Model
from rsfm.networks import EncoderNetwork
from rsfm.raster.area import read_area
from rsfm.runs import Run
from rsfm.training.finetuning import open_for

FEWEST_TILES = 4
"""Sampled of each raster, however many there are."""


def share_components(configs: Sequence[EmbedConfig], run: Run) -> Callable[[EmbedConfig, Run], dict[str, Any]]:
    """Fit components on a sample of all rasters, and return what embeds one of them.

    They are kept for a later start, for as long as the model's file is the same.
    """
    model = model_file.load(configs[0].model)
    with open(configs[0].model, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    folder = run.checkpoints / f"components-{digest[:16]}"
    folder.mkdir(exist_ok=True)
    keep_basis(folder, lambda: _fit(model, configs, run))
    return partial(embed, basis=Path(folder))


def _fit(model: Model, configs: Sequence[EmbedConfig], run: Run) -> Basis:
    config = configs[0]
    device = choose_device(config.device, run)
    network = EncoderNetwork(model.encoder(), model.card.statistics).to(device)
    parts: list[NDArray[np.float32]] = []
    reason: UserError | None = None
    for index, own in enumerate(configs):
        run.progress(0, f"Sampling features of {index + 1} of {len(configs)} rasters")
        try:
            with open_for(model, own.raster) as raster:
                place = Place(raster, read_area(raster.grid, own.area), own.tiling, device)
                tiles = max(SAMPLED_TILES // len(configs), FEWEST_TILES)
                parts.append(sample_features(network, place, own, run, tiles)[: SAMPLED_CELLS // len(configs) + 1])
        except UserError as error:  # told again when it is the raster's turn
            reason = error
    if not parts:
        raise reason or UserError("There is no raster to sample. Choose another collection under 'Raster'.", "raster")
    return fit_components(np.concatenate(parts), config.components)
