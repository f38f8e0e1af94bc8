"""A model is one .safetensors file; its header carries the model card as JSON. Loading never unpickles."""

import json
import math
import os
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from rsfm import __version__, encoders, heads, registry
from rsfm.encoder import Encoder, map_shapes
from rsfm.errors import UserError
from rsfm.head import Decoder, Head, PixelHead
from rsfm.params import Config
from rsfm.raster.statistics import Statistics

CARD = "rsfm"
FORMAT = 1
LEAST_SIDE = 32
"""Of a window that shows what maps an encoder makes, in pixels."""


class ClassName(Config):
    """A class of a segmentation: its value in the map, its name, its colour as "#rrggbb"."""

    value: int
    name: str
    colour: str


class Objects(Config):
    """How a head reads polygons or tiles.

    Attributes:
        spread: the standard deviation of each feature follows its mean.
        tile: side in metres of the squares it learnt from; 0 for polygons.
    """

    spread: bool = False
    tile: float = 0


class Card(Config):
    """What a model is and where it comes from.

    Attributes:
        encoder: config of the encoder; None for a model that reads pixels alone.
        source: the feature source a head reads: "pretrained", "untrained", "texture" or "pixels".
        head: config of the head; None for an encoder alone.
        band_names: of the rasters it was trained on, in order.
        units: pixels are read by the names of the bands and scaled as a collection says.
        objects: how a head that reads polygons or tiles as wholes pools their features; None for a head of pixels.
        gsd: metres per pixel of those rasters.
        footprints: west, south, east, north in degrees of each of those rasters.
    """

    format: int = FORMAT
    version: str = __version__
    title: str = ""
    bands: int
    band_names: tuple[str, ...] = ()
    units: bool = False
    statistics: Statistics
    gsd: float
    window: int = 0
    encoder: dict[str, Any] | None = None
    method: dict[str, Any] | None = None
    source: str = "pretrained"
    head: dict[str, Any] | None = None
    objects: Objects | None = None
    classes: tuple[ClassName, ...] = ()
    footprints: tuple[tuple[float, float, float, float], ...] = ()
    trained_on: tuple[str, ...] = ()
    provenance: dict[str, Any] = Field(default_factory=dict)
    licence: str = "The licence of the imagery it was trained on."


class Model:
    """A card with its tensors, named "encoder.*" and "head.*"."""

    def __init__(self, card: Card, tensors: dict[str, Tensor]) -> None:
        self.card, self.tensors = card, tensors

    def encoder(self) -> Encoder:
        """Build the encoder with its weights, in eval mode.

        Raises:
            UserError: the model has none.
        """
        if self.card.encoder is None:
            raise UserError("This model reads pixels and has no encoder. Choose a pretrained encoder.", "model")
        encoder = build_encoder(self.card.encoder, self.card.bands)
        encoder.load_state_dict(self._part("encoder"))
        return encoder.eval()

    def head(self, width: int) -> PixelHead:
        """Build the head with its weights, in eval mode.

        Raises:
            UserError: the model has none, or it reads an encoder's maps.
        """
        head = self.new_head(width)
        head.load_state_dict(self._part("head"))
        return head.eval()

    def new_head(self, width: int) -> PixelHead:
        """Build the head with fresh weights; errors as in `head`."""
        member = self._head_member()
        if not issubclass(member, PixelHead):
            raise UserError(
                f"The model '{self.card.title}' reads the maps of its encoder, not single vectors. Choose one with "
                "another head under 'Model'.",
                "model",
            )
        return member(member.Config.model_validate(self.card.head), width, len(self.card.classes))

    @property
    def decodes(self) -> bool:
        """Whether its head reads the maps of its encoder; errors as in `head` where it has none."""
        return issubclass(self._head_member(), Decoder)

    def decoder(self, encoder: Encoder) -> Decoder:
        """Build the head that reads an encoder's maps with its weights, in eval mode; errors as in `head`."""
        decoder = new_decoder(self.card.head or {}, encoder, len(self.card.classes))
        decoder.load_state_dict(self._part("head"))
        return decoder.eval()

    def _head_member(self) -> type[Head]:
        if self.card.head is None:
            raise UserError("This model is an encoder without a head. Choose one made by fine-tuning.", "model")
        if self.card.head["name"] not in registry.names(heads):
            raise UserError(
                f"The model '{self.card.title}' is not made for this. Choose one made by 'Fine-Tune on Polygons' under "
                "'Model'; one that finds objects is for 'Find Objects'.",
                "model",
            )
        return registry.member(heads, self.card.head["name"], Head)

    def _part(self, name: str) -> dict[str, Tensor]:
        return {key[len(name) + 1 :]: value for key, value in self.tensors.items() if key.startswith(name + ".")}


def build_encoder(config: dict[str, Any], bands: int) -> Encoder:
    """Build an encoder of fresh weights from its config."""
    member = registry.member(encoders, config["name"], Encoder)  # type: ignore[type-abstract]
    return member(member.Config.model_validate(config), bands)


def new_decoder(config: dict[str, Any], encoder: Encoder, classes: int) -> Decoder:
    """Build a decoder of fresh weights for the maps of an encoder."""
    member = registry.member(heads, config["name"], Decoder)  # type: ignore[type-abstract]
    shapes = map_shapes(encoder, math.lcm(encoder.stride, LEAST_SIDE))
    return member(member.Config.model_validate(config), shapes, classes)


def parts(**modules: torch.nn.Module) -> dict[str, Tensor]:
    """Name the tensors of modules as a model file does."""
    return {
        f"{name}.{key}": value.detach().cpu().contiguous()
        for name, module in modules.items()
        for key, value in module.state_dict().items()
    }


def save(path: Path, card: Card, tensors: dict[str, Tensor]) -> None:
    """Write a model file, by renaming a finished one."""
    partial = path.with_name(f"{path.stem}.partial{path.suffix}")
    save_file(tensors, partial, metadata={CARD: card.model_dump_json()})
    os.replace(partial, path)


def load(path: str, field: str = "model") -> Model:
    """Read a model file.

    Raises:
        UserError: it is absent, not a model of this project, or of a later version.
    """
    card = read_card(path, field)
    with safe_open(path, framework="pt") as file:
        return Model(card, {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118


def read_card(path: str, field: str = "model") -> Card:
    """Read the card alone; errors as in `load`."""
    if not Path(path).is_file():
        raise UserError(f"There is no model file '{path}'. Choose one under 'Model', or pretrain one first.", field)
    try:
        with safe_open(path, framework="pt") as file:
            values = json.loads((file.metadata() or {})[CARD])
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise UserError(
            f"'{Path(path).name}' is not an RSFM model file. Choose a .safetensors file that "
            "pretraining or fine-tuning made.",
            field,
        ) from error
    if values.get("format", 0) > FORMAT:
        raise UserError(
            f"'{Path(path).name}' was made by RSFM {values.get('version')}, later than this {__version__}. "
            "Update the backend under Settings > Options > RSFM.",
            field,
        )
    return Card.model_validate(values)
