"""Principal components for several rasters, so that a colour means the same on all of them.

Shape letters: N sampled cells, D features.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsfm import model_file
from rsfm.components import SUFFIX, Basis, fit_components, save_basis
from rsfm.devices import choose_device
from rsfm.embedding import embed
from rsfm.errors import UserError
from rsfm.feature_sample import CELLS, sample_features, whole
from rsfm.jobs.embed import EmbedConfig
from rsfm.mapping import Place
from rsfm.model_file import Model
from rsfm.networks import EncoderNetwork
from rsfm.raster.area import read_area
from rsfm.runs import Run
from rsfm.training.finetuning import open_for

FEWEST_CELLS = 1000
"""Sampled of each raster, however many there are."""


def share_components(configs: Sequence[EmbedConfig], run: Run) -> Callable[[EmbedConfig, Run], dict[str, Any]]:
    """Fit components on a sample of all rasters, and return what embeds one of them.

    They are kept for a later start, for as long as the model's file is the same.

    Raises:
        UserError: no raster can be sampled, or a second raster is given beside several.
    """
    config = configs[0]
    if config.second:
        raise UserError(
            "A second raster was given beside several rasters, which take the same colours anyhow. Leave 'Second "
            "raster' empty.",
            "second",
        )
    if config.same_as:
        return embed
    with open(config.model, "rb") as model:
        digest = hashlib.file_digest(model, "sha256").hexdigest()
    file = run.checkpoints / f"{digest[:16]}{SUFFIX}"
    if not file.exists():
        save_basis(_fit(model_file.load(config.model), configs, digest, run), file)

    def embed_alike(own: EmbedConfig, part: Run) -> dict[str, Any]:
        return embed(own.model_copy(update={"same_as": str(file)}), part)

    return embed_alike


def _fit(model: Model, configs: Sequence[EmbedConfig], digest: str, run: Run) -> Basis:
    config = configs[0]
    device = choose_device(config.device, run)
    network = EncoderNetwork(model.encoder(), model.card.statistics).to(device)
    cells = max(CELLS // len(configs), FEWEST_CELLS)
    parts: list[NDArray[np.float32]] = []
    reason: UserError | None = None
    for index, own in enumerate(configs):
        run.progress(0, f"Sampling features of {index + 1} of {len(configs)} rasters")
        try:
            with open_for(model, own.raster) as raster:
                place = whole(Place(raster, read_area(raster.grid, own.area), own.tiling, device))
                parts.append(sample_features(network, place, own.seed, run.check, cells))
        except UserError as error:  # told again when it is the raster's turn
            reason = error
    if not parts:
        raise reason or UserError("There is no raster to sample. Choose another collection under 'Raster'.", "raster")
    return fit_components(np.concatenate(parts), config.components, digest)
