"""Momentum contrast: tell a key of the same place from the keys of places seen before.

Chen et al., 2020, "Improved Baselines with Momentum Contrastive Learning", arXiv:2003.04297; He et al., 2020,
"Momentum Contrast for Unsupervised Visual Representation Learning", arXiv:1911.05722.

Shape letters: B batch, C bands, H rows, W columns, D features compared, K length of the queue.
"""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from rsfm.blocks.band_drop import ViewsConfig, ViewsMethod
from rsfm.blocks.batch_groups import in_groups
from rsfm.blocks.queue import Queue
from rsfm.blocks.ranks import gather_rows, own_rows, ranks, same_for_all
from rsfm.blocks.views import ViewKind
from rsfm.encoder import Encoder
from rsfm.errors import UserError
from rsfm.params import Channels, Fraction, Pixels


class MomentumContrastConfig(ViewsConfig):
    """Base of the configs of MoCo v2 and GASSL."""

    views: ViewKind = Field(
        "quick",
        description="How a view is made.",
        json_schema_extra={
            "choices": ["quick", "published"],
            "titles": [
                "Quick: crop, turn and jitter, for imagery from above",
                "As published: resized crop, colour, blur",
            ],
        },
    )
    view_size: Pixels = Field(32, ge=8, le=1024, description="Side of a view cut from a window.")
    queue: int = Field(2048, ge=2, le=1048576, description="Earlier views that serve as negatives.")
    temperature: Fraction = Field(0.2, ge=0.01, le=10, description="Sharpness of the comparison; lower is sharper.")
    momentum: Fraction = Field(0.99, ge=0, le=1, description="Share of its weights the key encoder keeps at a step.")
    dimension: Channels = Field(64, ge=2, le=4096, description="Features that are compared.")
    bn_groups: Channels = Field(
        1, ge=1, le=64, description="Groups with batch statistics of their own; more than 1 hides them from the loss."
    )


class MomentumContrast(ViewsMethod):
    """An encoder with a projection, their slow averages, and a queue of the averages' keys.

    Attributes:
        average_due: the optimizer has stepped since the averages moved.
    """

    average_due: Tensor
    once = ("average_due",)
    least = 2

    def __init__(self, config: Any, encoder: Encoder) -> None:
        super().__init__(config, encoder)
        self.config: MomentumContrastConfig = config
        self.encoder = encoder
        self.projection = make_projection(encoder.width, config.dimension)
        self.key_encoder = copy.deepcopy(encoder).requires_grad_(False)
        self.key_projection = copy.deepcopy(self.projection).requires_grad_(False)
        self.negatives = Queue(config.dimension, config.queue)
        self.register_buffer("average_due", torch.ones((), dtype=torch.bool))

    def after_step(self, progress: float) -> None:
        self.average_due.fill_(True)

    def compare(self, query_BCHW: Tensor, key_BCHW: Tensor, order_B: Tensor | None = None) -> Tensor:
        """Compare queries with their keys and the queue, then put the keys into the queue.

        The key encoder moves first, once for each step of the optimizer: with accumulated gradients every micro-batch
        enters the queue but only the first moves the average.

        Args:
            order_B: permutation of the keys of all processes before they are grouped for batch norm; drawn if not
                given.

        Returns:
            logits_BK: of 1 + K classes, the matching key first, divided by the temperature.
        """
        return self.compare_projected(self.project(query_BCHW), key_BCHW, order_B)

    def project(self, query_BCHW: Tensor) -> Tensor:
        """Return the projections of queries, query_BD, before they are brought to length 1."""
        return in_groups(self.encoder, self._encode_queries, query_BCHW, self.groups(len(query_BCHW)))

    def compare_projected(self, query_BD: Tensor, key_BCHW: Tensor, order_B: Tensor | None = None) -> Tensor:
        """Do the rest of `compare` with projected queries."""
        self.move_average()
        key_BD = self.encode_keys(key_BCHW, self._encode_keys, order_B)
        with torch.autocast(query_BD.device.type, enabled=False):
            query_BD = functional.normalize(query_BD.float(), dim=1)
            key_BD = functional.normalize(key_BD.float(), dim=1)
            match_B1 = (query_BD * key_BD).sum(1, keepdim=True)
            others_BK = query_BD @ self.negatives.queue.clone()  # a copy: the keys replace part of it before backward
            logits_BK = torch.cat([match_B1, others_BK], dim=1) / self.config.temperature
        self.negatives.add(gather_rows(key_BD))
        return logits_BK

    @torch.no_grad()
    def encode_keys(
        self, key_BCHW: Tensor, encode: Callable[[Tensor], Tensor], order_B: Tensor | None = None
    ) -> Tensor:
        """Encode the keys in shuffled groups, so that no query shares its batch statistics with its own key."""
        groups = self.groups(len(key_BCHW))
        if groups == 1:
            return encode(key_BCHW)
        if order_B is None:
            order_B = same_for_all(torch.randperm(len(key_BCHW) * ranks(), device=key_BCHW.device))
        shuffled_BCHW = own_rows(gather_rows(key_BCHW)[order_B])
        shuffled_BD = in_groups(self.key_encoder, encode, shuffled_BCHW, groups)
        return own_rows(gather_rows(shuffled_BD)[order_B.argsort()])

    def _encode_queries(self, query_BCHW: Tensor) -> Tensor:
        query_BD: Tensor = self.projection(self.encoder.embedding(query_BCHW))
        return query_BD

    def _encode_keys(self, key_BCHW: Tensor) -> Tensor:
        key_BD: Tensor = self.key_projection(self.key_encoder.embedding(key_BCHW))
        return key_BD

    @torch.no_grad()
    def move_average(self) -> None:
        """Move the key encoder's parameters, not its buffers, towards the encoder's."""
        if not self.average_due:
            return
        for slow, fast in self.averages_of():
            for average, parameter in zip(slow.parameters(), fast.parameters(), strict=True):
                average.mul_(self.config.momentum).add_(parameter, alpha=1 - self.config.momentum)
        self.average_due.fill_(False)

    def averages_of(self) -> Iterator[tuple[nn.Module, nn.Module]]:
        """Yield each slow average, and what it follows."""
        yield self.key_encoder, self.encoder
        yield self.key_projection, self.projection

    def groups(self, count: int) -> int:
        """Tell into how many groups a batch of this process is divided for batch norm.

        Raises:
            UserError: the batch cannot be divided so.
        """
        groups = max(self.config.bn_groups // self.parts, 1)  # a part of a step has fewer, of as many windows
        if groups > 1 and groups % ranks():
            raise UserError(
                f"{groups} groups with batch statistics of their own cannot be shared out among {ranks()} processes. "
                f"Set 'Bn groups' to 1 or to a multiple of {ranks()}.",
                "method.bn_groups",
            )
        if count * ranks() < 2 * groups:
            raise UserError(
                f"A batch of {count * ranks()} windows cannot be split into {groups} groups of two or more. "
                "Make 'Batch size' larger, or 'Bn groups' smaller.",
                "method.bn_groups",
            )
        return groups


def make_projection(width: int, dimension: int) -> nn.Sequential:
    """Make a head of two layers."""
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, dimension))


def contrast(logits_BK: Tensor) -> Tensor:
    """Cross-entropy against the first class, the matching key."""
    return functional.cross_entropy(logits_BK, torch.zeros(len(logits_BK), dtype=torch.long, device=logits_BK.device))


def top(logits_BK: Tensor, count: int) -> Tensor:
    """Share of queries whose matching key is among the `count` best."""
    best_BN = logits_BK.detach().topk(count, dim=1).indices
    return (best_BN == 0).any(1).float().mean()
