"""What is pooled over polygons and tiles, and what a head makes of it.

Shape letters: K values or classes, h and w rows and columns of cells, J objects.
"""

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from rsfm.inference import TileNetwork
from rsfm.model_file import Model
from rsfm.networks import EncoderNetwork, FeatureNetwork, head_network, make_source
from rsfm.raster.pooling import Pooled
from rsfm.raster.statistics import Statistics
from rsfm.source import Source
from rsfm.sources.encoded import Encoded


class Reading(Protocol):
    """How a model reads objects.

    Attributes:
        network: runs over tiles.
    """

    network: TileNetwork

    def values(self, outputs_Khw: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what is pooled of each cell."""

    def probabilities(self, pooled: Pooled) -> NDArray[np.float32]:
        """Return the probability of each class for each object, probability_JK."""


class ObjectReading:
    """A head that learnt from whole objects: it reads the mean, and perhaps the spread, of their features."""

    def __init__(self, model: Model) -> None:
        source = make_source(model.card.source, model)
        self._spread = model.card.objects is not None and model.card.objects.spread
        self.network: TileNetwork = pooling_network(source, model.card.statistics)
        self._head = model.head(source.width * (2 if self._spread else 1))

    def values(self, outputs_Khw: NDArray[np.float32]) -> NDArray[np.float32]:
        return outputs_Khw

    def probabilities(self, pooled: Pooled) -> NDArray[np.float32]:
        features = torch.from_numpy(object_features(pooled, self._spread))
        with torch.inference_mode():
            logits_JK = self._head(features[:, :, None, None])[:, :, 0, 0]
            return np.asarray(torch.softmax(logits_JK, dim=1).numpy())


class PixelReading:
    """A segmentation model: the mean of the softmax of an object's pixels, or the share of each class among them."""

    def __init__(self, model: Model, majority: bool) -> None:
        self.network: TileNetwork = head_network(model)
        self._majority = majority

    def values(self, outputs_Khw: NDArray[np.float32]) -> NDArray[np.float32]:
        if self._majority:
            best_hw = outputs_Khw.argmax(axis=0)
            return np.asarray(np.arange(len(outputs_Khw))[:, None, None] == best_hw, np.float32)
        share_Khw = np.exp(outputs_Khw - outputs_Khw.max(axis=0))
        return np.asarray(share_Khw / share_Khw.sum(axis=0))

    def probabilities(self, pooled: Pooled) -> NDArray[np.float32]:
        return pooled.mean_JK.astype(np.float32)


def read_model(model: Model, majority: bool) -> Reading:
    """Choose how a model reads objects.

    Raises:
        UserError: it has no head.
    """
    return PixelReading(model, majority) if model.card.objects is None else ObjectReading(model)


def pooling_network(source: Source, statistics: Statistics) -> TileNetwork:
    """Build the network of the features that are pooled: those of the cells of an encoder, or of pixels."""
    if isinstance(source, Encoded):
        return EncoderNetwork(source.encoder, statistics).eval()
    return FeatureNetwork(source, statistics).eval()


def object_features(pooled: Pooled, spread: bool) -> NDArray[np.float32]:
    """Return what a head reads of each object."""
    parts = [pooled.mean_JK, pooled.std_JK] if spread else [pooled.mean_JK]
    return np.hstack(parts).astype(np.float32)
