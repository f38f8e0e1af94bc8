"""The feature maps of an encoder, from early to late, found by showing it one small window."""

from typing import NamedTuple

import torch

from rsfm.encoder import Encoder


class Level(NamedTuple):
    """One of an encoder's feature maps: its place among them, its number of features, and pixels of a cell."""

    number: int
    width: int
    stride: int


def levels_of(encoder: Encoder) -> list[Level]:
    """List the feature maps of an encoder, the earliest first."""
    side = 2 * encoder.stride
    with torch.inference_mode():
        maps = encoder.eval().feature_maps(torch.zeros(1, encoder.bands, side, side))
    return [Level(number, found.features_BDhw.shape[1], found.stride) for number, found in enumerate(maps)]
