"""A head reads features and answers the task's question. Members of `heads/`.

Shape letters: B batch, D features, K classes, H rows, W columns, N labelled pixels.
"""

from abc import abstractmethod
from typing import Any, ClassVar

from torch import Tensor, nn

from rsfm.params import Config


class HeadConfig(Config):
    """Base of the heads' configs; each has a field `name: Literal[...]`."""


class Head(nn.Module):
    """The part trained on top of a feature source.

    Attributes:
        name: the module's name.
        Config: its parameters.
        classes: K.
    """

    name: ClassVar[str]
    Config: ClassVar[type[HeadConfig]]
    classes: int

    @abstractmethod
    def __init__(self, config: Any, width: int, classes: int) -> None:
        super().__init__()

    @abstractmethod
    def forward(self, features_BDHW: Tensor) -> Tensor:
        """Return logits_BKHW."""
