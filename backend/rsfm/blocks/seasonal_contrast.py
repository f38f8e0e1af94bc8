"""Seasonal contrast: three spaces, blind to season and light, to the season only, and to the light only.

Mañas et al., 2021, "Seasonal Contrast: Unsupervised Pre-Training from Uncurated Remote Sensing Data",
arXiv:2103.16607.

Shape letters: B batch, C bands, H rows, W columns, T dates, D width of the encoder, E features compared, K length of a
queue, S spaces.
"""

import copy
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from rsfm.blocks.dates import take_dates, usable_dates
from rsfm.blocks.momentum_contrast import make_projection
from rsfm.blocks.queue import Queue
from rsfm.blocks.ranks import gather_rows, own_rows, ranks
from rsfm.blocks.view import View
from rsfm.method import Sample

DATES_OF_A_PLACE = 5
"""Dates of a place in the authors' data."""
SPACES = 3


class Space(nn.Module):
    """A head on the encoder, its slow average, and the keys of places seen before."""

    def __init__(self, width: int, dimension: int, length: int) -> None:
        super().__init__()
        self.projection = make_projection(width, dimension)
        self.key_projection = copy.deepcopy(self.projection).requires_grad_(False)
        self.negatives = Queue(dimension, length)


class Seasons(NamedTuple):
    """A window on three dates, and the share of windows that have one date only."""

    windows: tuple[View, View, View]
    alone: Tensor


def draw_seasons(sample: Sample) -> Seasons:
    """Draw three of the dates of each window, with replacement."""
    if sample.dates is None:
        window = View(sample.pixels_BCHW, sample.valid_BHW)
        return Seasons((window, window, window), torch.ones(()))
    usable_BT = usable_dates(sample.dates.valid_BTHW)
    usable_BT[:, 0] |= ~usable_BT.any(1)  # the window's own date, where none has enough valid pixels
    device = usable_BT.device
    drawn_B3T = own_rows(torch.rand(len(usable_BT) * ranks(), SPACES, usable_BT.shape[1], device=device))
    index_B3 = drawn_B3T.masked_fill(~usable_BT[:, None], -1).argmax(2)
    pixels_B3CHW, valid_B3HW = (take_dates(part, index_B3) for part in sample.dates[:2])
    first, second, third = (View(pixels_B3CHW[:, date], valid_B3HW[:, date]) for date in range(SPACES))
    return Seasons((first, second, third), (usable_BT.sum(1) < 2).float().mean())


def compare_spaces(
    spaces: Sequence[Space], query_BD: Tensor, keys_SBD: Sequence[Tensor], temperature: float
) -> list[Tensor]:
    """Compare queries with their keys in each space, then put the key of a space into its queue.

    The first space is blind to everything, and its negatives are its queue. In each other one the two other kinds of
    keys of all windows are negatives too: they differ in what that space must see.

    Args:
        query_BD: features of the queries, before the heads.
        keys_SBD: features of the key that each space is to match.

    Returns:
        logits of each space, logits_BK, the matching key first, divided by the temperature.
    """
    logits = []
    for number, space in enumerate(spaces):
        with torch.no_grad():
            keys_SBE = [_unit(space.key_projection(key_BD)) for key_BD in (keys_SBD if number else keys_SBD[:1])]
        with torch.autocast(query_BD.device.type, enabled=False):
            query_BE = _unit(space.projection(query_BD.float()))
            others = [gather_rows(key_BE).T for other, key_BE in enumerate(keys_SBE) if other != number]
            negatives_EK = torch.cat([space.negatives.queue.clone(), *others], dim=1)
            match_B1 = (query_BE * keys_SBE[number]).sum(1, keepdim=True)
            logits.append(torch.cat([match_B1, query_BE @ negatives_EK], dim=1) / temperature)
        space.negatives.add(gather_rows(keys_SBE[number]))
    return logits


def _unit(features_BE: Tensor) -> Tensor:
    return functional.normalize(features_BE.float(), dim=1)
