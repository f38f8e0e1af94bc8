"""The layers that an embedding makes of a network's outputs: the map, a picture of it, an index for search.

Shape letters: K components, D features, H rows, W columns.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rsfm.components import Basis
from rsfm.output import RasterKind
from rsfm.outputs.embedding import Embedding
from rsfm.outputs.embedding_picture import EmbeddingPicture
from rsfm.outputs.search_index import SearchIndex
from rsfm.raster.coding import Coding, Storage, stored_as

INDEX_TAG = "RSFM_INDEX"
"""Marks a file as an index; holds the digest of its model."""


class Layer(NamedTuple):
    """A raster, and how its rows are made.

    Attributes:
        stem: of its file.
        make: takes values_KHW, float32, and valid_HW.
        scaling: scale and offset of each band, where the file needs them.
    """

    kind: type[RasterKind]
    stem: str
    title: str
    names: list[str]
    make: Callable[[NDArray[np.float32], NDArray[np.bool_]], NDArray[Any]]
    scaling: Sequence[tuple[float, float]] = ()
    tags: Mapping[str, str] = {}
    style: Mapping[str, Any] = {}


def embedding_layer(basis: Basis, coding: Coding) -> Layer:
    """Describe the map of the first outputs: components, or features where the basis keeps these."""
    word = "feature " if basis.keeps_features else "PC"
    names = [f"{word}{k + 1}" for k in range(basis.outputs)]

    def make(values_KHW: NDArray[np.float32], valid_HW: NDArray[np.bool_]) -> NDArray[Any]:
        return coding.encode(values_KHW[: basis.outputs], valid_HW)

    style = {"bands": [1, 2, 3][: basis.outputs], "ranges": basis.ranges[:3]}
    return Layer(coding.kind, "embedding", "Embedding", names, make, coding.scaling, style=style)


def picture_layer(basis: Basis) -> Layer:
    """Describe the picture of the first three outputs."""

    def make(values_KHW: NDArray[np.float32], valid_HW: NDArray[np.bool_]) -> NDArray[Any]:
        return paint(values_KHW, valid_HW, basis.ranges)

    return Layer(EmbeddingPicture, "embedding_rgb", "Colours of the embedding", ["Red", "Green", "Blue"], make)


def index_layer(width: int, model: str) -> Layer:
    """Describe the index of the last outputs, which are the features."""
    coding = stored_as(SearchIndex, "float16", np.zeros(0))

    def make(values_KHW: NDArray[np.float32], valid_HW: NDArray[np.bool_]) -> NDArray[Any]:
        return coding.encode(unit_length(values_KHW[-width:]), valid_HW)

    names = [f"feature {d + 1}" for d in range(width)]
    return Layer(coding.kind, "index", "Search index", names, make, tags={INDEX_TAG: model})


def embedding_coding(basis: Basis, storage: Storage) -> Coding:
    """Choose how the map is stored."""
    return stored_as(Embedding, storage, basis.largest_K)


def unit_length(features_DHW: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return features of length 1; those of length 0 stay."""
    length_HW = np.sqrt(np.square(features_DHW).sum(0))
    unit_DHW: NDArray[np.float32] = features_DHW / np.maximum(length_HW, np.float32(1e-12))
    return unit_DHW


def paint(
    values_KHW: NDArray[np.float32], valid_HW: NDArray[np.bool_], ranges: Sequence[tuple[float, float]]
) -> NDArray[np.uint8]:
    """Stretch the first three components from 1 to 255; 0 where invalid. One or two components are shown in grey."""
    channels = [0, 1, 2] if len(ranges) >= 3 else [0, 0, 0]
    low_3, high_3 = np.array([ranges[channel] for channel in channels], np.float32).T[:, :, None, None]
    share_3HW = (values_KHW[channels] - low_3) / np.maximum(high_3 - low_3, np.float32(1e-12))
    colours_3HW = 1 + np.rint(254 * np.clip(share_3HW, 0, 1))
    return np.where(valid_HW, colours_3HW, np.float32(0)).astype(np.uint8)
