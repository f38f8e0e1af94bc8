"""Bitemporal image transformer: two dates are told in a few tokens, which every pixel then reads.

Chen et al., 2022, "Remote Sensing Image Change Detection With Transformers", IEEE Transactions on Geoscience and Remote
Sensing 60, arXiv:2103.00208. Queries, keys and values have one matrix each, and layers other names than the authors'.

Shape letters: B batch, H rows, W columns, h and w rows and columns of a map, D width of pixels and tokens, K classes,
N pixels of a map (h w), L tokens of a date, T tokens of both (2 L), Q queries, M what they look at, E heads.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from rsfm.encoder import FeatureMap

STRIDE = 4
"""Pixels of a cell of the maps that are compared."""
SPREAD = 0.02
"""Deviation of fresh weights."""


class BitShape(NamedTuple):
    """Sizes of the head; as published where nothing is said, with the decoder of the released LEVIR-CD model.

    Attributes:
        width: D.
        tokens: L.
        heads: E, of all attentions.
        depth, head_width: of the encoder of tokens.
        decoder_depth, decoder_head_width: of the decoder that pixels go through.
        hidden: width inside the perceptrons.
    """

    width: int = 32
    tokens: int = 4
    heads: int = 8
    depth: int = 1
    head_width: int = 64
    decoder_depth: int = 8
    decoder_head_width: int = 8
    hidden: int = 64


class Bit(nn.Module):
    """From a map of each date to logits at the resolution of the pixels; the dates share all weights.

    Only the positions of the tokens tell the first date from the second.
    """

    def __init__(self, features: int, classes: int, shape: BitShape) -> None:
        """Make fresh weights.

        Args:
            features: of a cell of the maps.
        """
        super().__init__()
        width = shape.width
        self.reduce = nn.Conv2d(features, width, 3, padding=1)
        self.to_tokens = nn.Conv2d(width, shape.tokens, 1, bias=False)
        self.positions = nn.Parameter(torch.randn(1, 2 * shape.tokens, width))
        self.encoder = nn.ModuleList(
            AttentionBlock(width, shape.heads, shape.head_width, shape.hidden) for _ in range(shape.depth)
        )
        self.decoder = nn.ModuleList(
            AttentionBlock(width, shape.heads, shape.decoder_head_width, shape.hidden)
            for _ in range(shape.decoder_depth)
        )
        self.classifier = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, classes, 3, padding=1),
        )
        self.apply(_initialise)

    def forward(self, before: FeatureMap, after: FeatureMap, height: int, width: int) -> Tensor:
        """Return logits_BKHW of so many rows and columns of pixels."""
        before_BDhw, after_BDhw = self.pixels(before), self.pixels(after)
        tokens_BTD = torch.cat([self.tokens(before_BDhw), self.tokens(after_BDhw)], dim=1)
        before_BLD, after_BLD = self.relate(tokens_BTD).chunk(2, dim=1)
        return self.classify(self.read(before_BDhw, before_BLD), self.read(after_BDhw, after_BLD), height, width)

    def pixels(self, features: FeatureMap) -> Tensor:
        """Bring a map to STRIDE, by its nearest cell from twice that stride, and to the width of pixels."""
        reduced_BDhw: Tensor = self.reduce(_at_stride(features))
        return reduced_BDhw

    def tokens(self, pixels_BDhw: Tensor) -> Tensor:
        """Return tokens_BLD, each a mean of all pixels, weighed by softmax."""
        weights_BLN: Tensor = self.to_tokens(pixels_BDhw).flatten(2).softmax(-1)
        return weights_BLN @ pixels_BDhw.flatten(2).transpose(1, 2)

    def relate(self, tokens_BTD: Tensor) -> Tensor:
        """Let the tokens of both dates look at each other."""
        related_BTD: Tensor = tokens_BTD + self.positions
        for block in self.encoder:
            related_BTD = block(related_BTD, related_BTD)
        return related_BTD

    def read(self, pixels_BDhw: Tensor, tokens_BLD: Tensor) -> Tensor:
        """Let every pixel look at the tokens of its date; returns the map that was given, changed."""
        pixels_BND: Tensor = pixels_BDhw.flatten(2).transpose(1, 2)
        for block in self.decoder:
            pixels_BND = block(pixels_BND, tokens_BLD)
        return pixels_BND.transpose(1, 2).reshape(pixels_BDhw.shape)

    def classify(self, before_BDhw: Tensor, after_BDhw: Tensor, height: int, width: int) -> Tensor:
        """Return logits_BKHW of what differs."""
        apart_BDhw = (before_BDhw - after_BDhw).abs()
        apart_BDHW = functional.interpolate(apart_BDhw, (height, width), mode="bilinear", align_corners=False)
        logits_BKHW: Tensor = self.classifier(apart_BDHW)
        return logits_BKHW


class AttentionBlock(nn.Module):
    """Attention and a perceptron, each added to what goes in; one norm for the queries and what they look at."""

    def __init__(self, width: int, heads: int, head_width: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = Attention(width, heads, head_width)
        self.norm_after = nn.LayerNorm(width)
        self.perceptron = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, queries_BQD: Tensor, memory_BMD: Tensor) -> Tensor:
        seen_BQD = queries_BQD + self.attention(self.norm(queries_BQD), self.norm(memory_BMD))
        answer_BQD: Tensor = seen_BQD + self.perceptron(self.norm_after(seen_BQD))
        return answer_BQD


class Attention(nn.Module):
    """Attention of several heads; its scale is that of the whole width, not of a head's, as the authors have it."""

    def __init__(self, width: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, width**-0.5
        self.query = nn.Linear(width, heads * head_width, bias=False)
        self.key = nn.Linear(width, heads * head_width, bias=False)
        self.value = nn.Linear(width, heads * head_width, bias=False)
        self.out = nn.Linear(heads * head_width, width)

    def forward(self, queries_BQD: Tensor, memory_BMD: Tensor) -> Tensor:
        query_BEQF, key_BEMF, value_BEMF = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2)
            for part in (self.query(queries_BQD), self.key(memory_BMD), self.value(memory_BMD))
        )
        seen_BEQF = functional.scaled_dot_product_attention(query_BEQF, key_BEMF, value_BEMF, scale=self.scale)
        seen_BQD: Tensor = self.out(seen_BEQF.transpose(1, 2).flatten(2))
        return seen_BQD


def _at_stride(features: FeatureMap) -> Tensor:
    map_BDhw, stride = features
    if stride == STRIDE:
        return map_BDhw
    if stride == 2 * STRIDE:
        return functional.interpolate(map_BDhw, scale_factor=2, mode="nearest")
    size = [max(round(cells * stride / STRIDE), 1) for cells in map_BDhw.shape[2:]]
    return functional.interpolate(map_BDhw, size, mode="bilinear", align_corners=False)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, (nn.Conv2d, nn.Linear)):
        nn.init.normal_(module.weight, std=SPREAD)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, mean=1, std=SPREAD)
