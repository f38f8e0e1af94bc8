"""A head reads features and answers the task's question. Members of `heads/`.

Two kinds: a `PixelHead` reads one vector a pixel, of any feature source; a `Decoder` reads all maps of an encoder.

Shape letters: B batch, D features, K classes, H rows, W columns.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

from torch import Tensor, nn

from rsfm.encoder import FeatureMap, MapShape
from rsfm.params import Config


class HeadConfig(Config):
    """Base of the heads' configs; each has a field `name: Literal[...]`."""


class Head(nn.Module):
    """The part trained on top.

    Attributes:
        name: the module's name.
        Config: its parameters.
        classes: K.
    """

    name: ClassVar[str]
    Config: ClassVar[type[HeadConfig]]
    classes: int


class PixelHead(Head):
    """Reads the vector of each pixel by itself."""

    @abstractmethod
    def __init__(self, config: Any, width: int, classes: int) -> None:
        super().__init__()

    @abstractmethod
    def forward(self, features_BDHW: Tensor) -> Tensor:
        """Return logits_BKHW."""


class Answer(NamedTuple):
    """Logits_BKHW that are compared with the labels, and how much that counts."""

    logits_BKHW: Tensor
    weight: float


class Decoder(Head):
    """Reads all maps of an encoder, of windows whose height and width are multiples of `multiple`.

    It looks at the whole of a tile, or at so much of it that tiles are better blended than cut.

    Attributes:
        multiple: of the strides that it works at; the encoder may ask for more.
    """

    multiple: int

    @abstractmethod
    def __init__(self, config: Any, shapes: Sequence[MapShape], classes: int) -> None:
        """Make one of fresh weights for maps of these shapes, finest first."""
        super().__init__()

    @abstractmethod
    def forward(self, maps: list[FeatureMap], height: int, width: int) -> Tensor:
        """Return logits_BKHW of windows of this height and width in pixels."""

    def answers(self, maps: list[FeatureMap], height: int, width: int) -> list[Answer]:
        """Return all that is compared with the labels in learning: what `forward` gives, and more where it helps."""
        return [Answer(self(maps, height, width), 1.0)]
