"""An encoder and a head that tell what changed between two dates: taught, stored, read again, run over tiles.

Shape letters: B batch, C bands of a date, K classes (0 is no change), H rows, W columns, S side of a tile.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from rsfm import registry
from rsfm.blocks.normalisation import Normalisation
from rsfm.differences import change_heads
from rsfm.differences.change_head import ChangeHead
from rsfm.encoder import Encoder, FeatureMap
from rsfm.errors import UserError
from rsfm.inference import TileNetwork
from rsfm.model_file import Card, Model
from rsfm.raster.statistics import Statistics

TASK = "change"
"""What a card's head says it is for."""


class ChangeNetwork(nn.Module):
    """Both dates through one encoder, then the head.

    Attributes:
        either_way: in use, the answers for both orders of the dates are averaged, so that their order means nothing.
    """

    def __init__(self, encoder: Encoder, head: ChangeHead, either_way: bool) -> None:
        super().__init__()
        self.encoder, self.head, self.either_way = encoder, head, either_way

    def forward(self, before_BCHW: Tensor, after_BCHW: Tensor) -> Tensor:
        """Return logits_BKHW; the pixels are normalised, 0 where invalid."""
        size = before_BCHW.shape[2:]
        maps = self.encoder.feature_maps(torch.cat([before_BCHW, after_BCHW]))
        before, after = _dates(maps)
        logits_BKHW: Tensor = self.head(before, after, *size)
        if self.training or not self.either_way or self.head.is_symmetric:
            return logits_BKHW
        swapped_BKHW: Tensor = self.head(after, before, *size)
        return (logits_BKHW + swapped_BKHW) / 2


class DatesNetwork(TileNetwork):
    """Logits of tiles that hold the bands of the first date and then those of the second, in their own units."""

    def __init__(self, network: ChangeNetwork, dates: tuple[Statistics, Statistics], classes: int) -> None:
        super().__init__()
        self.normalisation, self.network = Normalisation.from_statistics(beside(*dates)), network
        self.outputs, self.stride, self.margin = classes, 1, network.head.margin
        self.multiple = math.lcm(network.encoder.stride, network.head.multiple)

    def forward(self, pixels_BCSS: Tensor, valid_BSS: Tensor) -> Tensor:
        before_BCSS, after_BCSS = self.normalisation(pixels_BCSS, valid_BSS).chunk(2, dim=1)
        logits_BKSS: Tensor = self.network(before_BCSS, after_BCSS)
        return logits_BKSS


def beside(before: Statistics, after: Statistics) -> Statistics:
    """Return the statistics of the bands of two dates, one after the other."""
    names = ("mean", "std", "low", "high", "count")
    return Statistics(**{name: (*getattr(before, name), *getattr(after, name)) for name in names})


def new_change_network(head: dict[str, Any], encoder: Encoder, classes: int) -> ChangeNetwork:
    """Build a network on an encoder, with a fresh head.

    Args:
        head: its config, and `either_way`; other entries mean nothing here.
        classes: K.
    """
    member = registry.member(change_heads, head["name"], ChangeHead)  # type: ignore[type-abstract]
    known = {name: value for name, value in head.items() if name in member.Config.model_fields}
    made = member(member.Config.model_validate(known), encoder, classes)
    return ChangeNetwork(encoder, made, bool(head.get("either_way", True)))


def tells_change(card: Card) -> bool:
    """Tell whether a model was made by teaching change."""
    return (card.head or {}).get("task") == TASK


def load_change_network(model: Model) -> ChangeNetwork:
    """Build the network of a model with its weights, in eval mode.

    Raises:
        UserError: the model does not tell change.
    """
    if not tells_change(model.card):
        raise UserError(
            f"The model '{model.card.title}' was not taught change. Choose one made by 'Teach Change' under 'Model'.",
            "model",
        )
    network = new_change_network(model.card.head or {}, model.encoder(), len(model.card.classes) + 1)
    own = {name.removeprefix("head."): value for name, value in model.tensors.items() if name.startswith("head.")}
    network.head.load_state_dict(own)
    return network.eval()


def _dates(maps: list[FeatureMap]) -> tuple[list[FeatureMap], list[FeatureMap]]:
    """Part the maps of both dates, which went through the encoder as one batch."""
    halves = [(each.features_BDhw.chunk(2), each.stride) for each in maps]
    before, after = ([FeatureMap(parts[date], stride) for parts, stride in halves] for date in (0, 1))
    return before, after
