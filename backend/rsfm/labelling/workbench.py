"""The raster, the source of features and the labels that a quick map or a suggestion works with."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rsfm import model_file
from rsfm.devices import choose_device
from rsfm.errors import UserError
from rsfm.inference import TileNetwork
from rsfm.labelling.config import LabellingConfig
from rsfm.labelling.feature_cache import FeatureCache
from rsfm.model_file import Model
from rsfm.networks import EncoderNetwork, FeatureNetwork
from rsfm.raster.collection_source import open_source
from rsfm.raster.grid import Grid, Window
from rsfm.raster.labels import choose_colours
from rsfm.raster.reader import Raster
from rsfm.raster.statistics import Statistics
from rsfm.runs import Run
from rsfm.sources.pixels import Pixels
from rsfm.sources.texture import Texture
from rsfm.training.finetuning import open_for, raster_statistics

LARGEST = 2000
"""Longest side of what is mapped at once, in pixels."""
FEATURES = {"pretrained": "the pretrained encoder", "texture": "pixels and texture", "pixels": "pixels"}


@contextmanager
def open_cache(config: LabellingConfig, run: Run) -> Iterator[FeatureCache]:
    """Open the raster, as its model reads it, with an empty cache of the features that were asked for.

    Raises:
        UserError: the raster or the model cannot be used.
    """
    device = choose_device(config.device, run)
    pretrained = model_file.load(config.model) if config.model else None
    raster = open_for(pretrained, config.raster) if pretrained else open_source(config.raster)
    with raster:
        statistics = pretrained.card.statistics if pretrained else raster_statistics(raster, config.seed)
        network = _network(features_of(config), pretrained, statistics, raster)
        yield FeatureCache(network.to(device).eval(), raster, device)


def features_of(config: LabellingConfig) -> str:
    """Return the features to use: "pretrained", "texture" or "pixels".

    Raises:
        UserError: the encoder that was asked for is not there.
    """
    if config.features == "pretrained" and not config.model:
        raise UserError("There is no pretrained encoder to use. Choose one under 'Model'.", "features")
    if config.features == "auto":
        return "pretrained" if config.model else "texture"
    return config.features


def middle(window: Window) -> Window:
    """Return as much of the middle of a window as is mapped at once."""
    height, width = min(window.height, LARGEST), min(window.width, LARGEST)
    row, column = window.row + (window.height - height) // 2, window.column + (window.width - width) // 2
    return Window(row, column, height, width)


def class_style(names: tuple[str, ...], given: dict[str, str]) -> list[dict[str, Any]]:
    """Return value, name and colour of classes, as a style tells them."""
    colours = choose_colours(names, {name: colour for name, colour in given.items() if name in names})
    return [
        {"value": value, "name": name, "colour": colour}
        for value, (name, colour) in enumerate(zip(names, colours, strict=True), start=1)
    ]


def place_of(grid: Grid) -> dict[str, Any]:
    """Return what a small raster's file needs to lie there."""
    return {"crs": grid.crs, "transform": grid.transform}


def _network(name: str, pretrained: Model | None, statistics: Statistics, raster: Raster) -> TileNetwork:
    if name == "pretrained" and pretrained is not None:
        return EncoderNetwork(pretrained.encoder(), statistics)
    return FeatureNetwork(Texture(raster.bands) if name == "texture" else Pixels(raster.bands), statistics)
