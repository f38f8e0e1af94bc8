"""Dates of a window: their code, its encoding by sines and cosines, and the choice of some of them.

Cong et al., 2022, "SatMAE: Pre-training Transformers for Temporal and Multi-Spectral Satellite Imagery",
arXiv:2207.08051.

Shape letters: B batch, T dates, J dates chosen, H rows, W columns.
"""

from datetime import UTC, datetime

import torch
from torch import Tensor

from rsfm.blocks.positions import sincos_1d
from rsfm.blocks.ranks import own_rows, ranks
from rsfm.blocks.view import View
from rsfm.method import Sample

FIRST_YEAR = 2002
USABLE = 0.5
"""Share of valid pixels from which a date of a window can be learned from."""


def time_code(moment: datetime) -> tuple[int, int, int]:
    """Return year - 2002, month - 1 and hour, in UTC; a moment without a time zone is taken as UTC."""
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return moment.year - FIRST_YEAR, moment.month - 1, moment.hour


def encode_time(time_BT3: Tensor, width: int) -> Tensor:
    """Encode codes of moments as float32 encoded_BTD: year, month, hour, each in a third of the width.

    The whole numbers go in as they are: December and January are no neighbours, nor are 23 and 0 hours. Computed in
    float64.

    Args:
        width: a multiple of 6.
    """
    count, dates, _ = time_BT3.shape
    return sincos_1d(width // 3, time_BT3.flatten()).float().reshape(count, dates, width)


def usable_dates(valid_BTHW: Tensor) -> Tensor:
    """Tell which dates of each window have enough valid pixels, usable_BT."""
    return valid_BTHW.flatten(2).float().mean(2) >= USABLE


def choose_dates(usable_BT: Tensor, count: int) -> Tensor:
    """Choose dates of each window, index_BJ: the first one, then others at random, all different if there are enough.

    With too few others they are used again; without any other the first one is.
    """
    others_BT = usable_BT.clone()
    others_BT[:, 0] = False
    windows, dates = usable_BT.shape
    drawn_BT = own_rows(torch.rand(windows * ranks(), dates, device=usable_BT.device)).masked_fill(~others_BT, -1)
    order_BT = drawn_BT.argsort(1, descending=True)  # usable others first, in random order
    found_B1 = others_BT.sum(1, keepdim=True)
    turn_1J = torch.arange(count - 1, device=usable_BT.device)[None]
    chosen_BJ = order_BT.gather(1, turn_1J % found_B1.clamp(min=1))
    first_B1 = torch.zeros_like(found_B1)
    return torch.cat([first_B1, torch.where(found_B1 > 0, chosen_BJ, 0)], dim=1)


def take_dates(values_BT: Tensor, index_BJ: Tensor) -> Tensor:
    """Take the chosen dates of any values that have the dates second."""
    return values_BT[torch.arange(len(values_BT), device=values_BT.device)[:, None], index_BJ]


def on_two_dates(sample: Sample) -> tuple[View, View, Tensor]:
    """Return windows on their own date and on another; and the share that has no other, which is shown twice."""
    first = View(sample.pixels_BCHW, sample.valid_BHW)
    if sample.dates is None:
        return first, first, torch.ones(())
    index_BJ = choose_dates(usable_dates(sample.dates.valid_BTHW), 2)
    pixels_BJCHW, valid_BJHW = (take_dates(part, index_BJ) for part in sample.dates[:2])
    return first, View(pixels_BJCHW[:, 1], valid_BJHW[:, 1]), (index_BJ[:, 1] == 0).float().mean()
