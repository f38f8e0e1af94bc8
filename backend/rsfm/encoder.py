"""An encoder turns windows of any number of bands into features; it is what pretraining keeps.

Shape letters: B batch, C bands, H rows, W columns, D features, h and w rows and columns of a feature map.
"""

from abc import abstractmethod
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from rsfm.params import Config


class EncoderConfig(Config):
    """Base of the encoders' configs; each has a field `name: Literal[...]`."""


class FeatureMap(NamedTuple):
    """A dense map of features, features_BDhw, of which one cell spans `stride` pixels."""

    features_BDhw: Tensor
    stride: int


class MapShape(NamedTuple):
    """Features of a map, and the pixels that its cells span."""

    features: int
    stride: int


class Encoder(nn.Module):
    """What is pretrained and kept.

    Attributes:
        name: the module's name.
        Config: its parameters.
        bands: C, of the pixels it reads.
        width: D, of `embedding` and of the last feature map.
        stride: pixels a cell of the last feature map spans.
        margin: how many pixels around a cell can change its features, when the network is finite; else None.
        window: side in pixels of the windows that its positions are made for; 0 where it has none.
    """

    name: ClassVar[str]
    Config: ClassVar[type[EncoderConfig]]
    bands: int
    width: int
    stride: int
    margin: int | None
    window: int = 0

    @abstractmethod
    def __init__(self, config: EncoderConfig, bands: int) -> None:
        super().__init__()

    def keep_fine(self, stride: int, stages: int) -> None:
        """Take no step once a cell spans `stride` pixels, and leave out what comes after so many stages.

        The weights stay; an architecture without stages stays as it is.
        """

    @abstractmethod
    def feature_maps(self, pixels_BCHW: Tensor) -> list[FeatureMap]:
        """Return dense maps, finest first; the last is the one that a linear head reads.

        H and W are multiples of `stride`; any such size the architecture allows.
        """

    @abstractmethod
    def embedding(self, pixels_BCHW: Tensor) -> Tensor:
        """Return one vector a window, embedding_BD."""


@torch.no_grad()
def map_shapes(encoder: Encoder, side: int) -> list[MapShape]:
    """Look at the maps that an encoder makes of windows of this side, finest first."""
    training = encoder.training
    device = next(encoder.parameters()).device
    maps = encoder.eval().feature_maps(torch.zeros(1, encoder.bands, side, side, device=device))
    encoder.train(training)
    return [MapShape(each.features_BDhw.shape[1], each.stride) for each in maps]
