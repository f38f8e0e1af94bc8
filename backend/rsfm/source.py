"""A feature source turns normalised pixels into a feature per pixel, for a head to read.

Members of `sources/`: raw pixels, pixels with local texture, an encoder. Any head works on any source, so that
"does pretraining pay here?" is one comparison of like with like.

Shape letters: B batch, C bands, H rows, W columns, D features.
"""

from abc import abstractmethod
from typing import ClassVar

from torch import Tensor, nn


class Source(nn.Module):
    """Features per pixel.

    Attributes:
        name: the module's name.
        width: D, the number of features.
        margin: how many pixels around a pixel can change its features; None when the whole tile does.
        multiple: tile starts and sizes are multiples of this many pixels.
        window: side of the windows it learnt with, where the whole tile counts; 0 where any tile does.
    """

    name: ClassVar[str]
    window: int = 0
    width: int
    margin: int | None
    multiple: int

    @abstractmethod
    def features(self, pixels_BCHW: Tensor) -> Tensor:
        """Return features_BDHW at the full resolution of the pixels, which are normalised with 0 where invalid."""
