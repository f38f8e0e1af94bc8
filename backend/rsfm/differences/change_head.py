"""A head for change reads the maps of an encoder at two dates and tells what changed. Members of `change_heads/`.

Shape letters: B batch, K classes, H rows, W columns.
"""

from abc import abstractmethod
from typing import Any, ClassVar

from torch import Tensor, nn

from rsfm.encoder import Encoder, FeatureMap
from rsfm.params import Config


class ChangeHeadConfig(Config):
    """Base of the heads' configs; each has a field `name: Literal[...]`."""


class ChangeHead(nn.Module):
    """The part trained on top of an encoder that sees both dates.

    Attributes:
        name: the module's name.
        Config: its parameters.
        margin: how many pixels around a pixel can change its answer; None when the whole tile does.
        multiple: sides of tiles are multiples of this many pixels.
        is_symmetric: swapping the dates changes nothing.
    """

    name: ClassVar[str]
    Config: ClassVar[type[ChangeHeadConfig]]
    margin: int | None
    multiple: int
    is_symmetric: bool

    @abstractmethod
    def __init__(self, config: Any, encoder: Encoder, classes: int) -> None:
        """Make fresh weights, and set the encoder to give the maps that are read.

        Args:
            classes: K, of which 0 is no change.
        """
        super().__init__()

    @abstractmethod
    def forward(self, before: list[FeatureMap], after: list[FeatureMap], height: int, width: int) -> Tensor:
        """Return logits_BKHW for pixels of this height and width."""
