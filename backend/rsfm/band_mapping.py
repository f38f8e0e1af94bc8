"""Fits the first layer of an encoder to the bands of other rasters than it was trained on.

Shape letters: D features, C bands, p side of a kernel.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from rsfm.errors import UserError
from rsfm.importer import Backbone, Found
from rsfm.raster.band_names import canonical

FIRST_LAYERS = ("conv1.weight", "patch_embed.proj.weight")


class Mapped(NamedTuple):
    """A backbone for a raster's bands.

    Attributes:
        scaled_as: for each band the name that its scaling is known by.
        record: for each band of the raster the band that its weights come from.
        note: what was done, in a sentence; empty if nothing was.
    """

    backbone: Backbone
    scaled_as: tuple[str, ...]
    record: dict[str, str]
    note: str


def map_bands(found: Found, wanted: Sequence[str]) -> Mapped:
    """Fit an encoder to bands of the names wanted, in their order.

    A band takes the weights of its namesake, and one without a namesake the mean of all; nothing is rescaled then. If
    no name fits, as many bands keep their order; another number gets the mean, rescaled so that sums stay as they were.

    Raises:
        UserError: an encoder of groups, whose bands must all be there.
    """
    theirs = [canonical(name) for name in found.band_names]
    places = [theirs.index(canonical(name)) if canonical(name) in theirs else None for name in wanted]
    if found.backbone.config["name"] == "vit_grouped":
        return _map_groups(found, wanted, places)
    named = any(place is not None for place in places)
    if not named and len(wanted) == found.backbone.bands:
        record = dict(zip(wanted, found.band_names or [f"band {n + 1}" for n in range(len(wanted))], strict=True))
        return Mapped(
            found.backbone, found.band_names or tuple(wanted), record, "No band has a known name: their order is kept."
        )
    name = next(name for name in FIRST_LAYERS if name in found.backbone.weights)
    weight_DCpp = _fit(found.backbone.weights[name].float(), places, named)
    weights = {**found.backbone.weights, name: weight_DCpp}
    sources = ["mean of all" if place is None else found.band_names[place] for place in places]
    record = dict(zip(wanted, sources, strict=True))
    note = f"Weights of the first layer by band: {', '.join(f'{to} from {source}' for to, source in record.items())}."
    return Mapped(Backbone(found.backbone.config, len(wanted), weights), tuple(wanted), record, note)


def _fit(weight_DCpp: Tensor, places: Sequence[int | None], named: bool) -> Tensor:
    mean_Dpp = weight_DCpp.mean(1)
    if not named:
        mean_Dpp = mean_Dpp * weight_DCpp.shape[1] / len(places)
    return torch.stack([mean_Dpp if place is None else weight_DCpp[:, place] for place in places], dim=1)


def _map_groups(found: Found, wanted: Sequence[str], places: Sequence[int | None]) -> Mapped:
    """Write the groups in the raster's numbers; the weights stay."""
    known = [place for place in places if place is not None]
    if sorted(known) != list(range(found.backbone.bands)) or len(wanted) != found.backbone.bands:
        raise UserError(
            f"This encoder reads groups of the bands {', '.join(found.band_names) or found.backbone.bands}, and the "
            f"raster has {', '.join(wanted)}. Choose one with just those bands, named so, under 'Raster', or none.",
            "raster",
        )
    number = {place: index + 1 for index, place in enumerate(known)}
    groups = [[int(part) - 1 for part in group.split(",")] for group in found.backbone.config["groups"].split(";")]
    text = "; ".join(",".join(str(number[place]) for place in group) for group in groups)
    backbone = found.backbone._replace(config={**found.backbone.config, "groups": text})
    record = {name: found.band_names[place] for name, place in zip(wanted, known, strict=True)}
    return Mapped(backbone, tuple(wanted), record, f"Groups of bands in the raster's numbers: {text}.")
