"""MoCo v2: tell the other view of a place from the views of places seen before.

Chen et al., 2020, "Improved Baselines with Momentum Contrastive Learning", arXiv:2003.04297; He et al., 2020,
"Momentum Contrast for Unsupervised Visual Representation Learning", arXiv:1911.05722.

Shape letters: B batch, C bands, H rows, W columns, D features compared, K length of the queue.
"""

import copy
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from rsfm.blocks.batch_groups import in_groups
from rsfm.blocks.queue import Queue
from rsfm.blocks.ranks import gather_rows
from rsfm.blocks.views import ViewKind, draw_view
from rsfm.encoder import Encoder
from rsfm.errors import UserError
from rsfm.job import Preset
from rsfm.method import Loss, Method, MethodConfig, Sample
from rsfm.params import Channels, Fraction, Pixels


class MoCoV2Config(MethodConfig):
    """Learns that two views of one place belong together and all others do not. A good first choice."""

    name: Literal["moco_v2"] = "moco_v2"
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


class MoCoV2(Method):
    name = "moco_v2"
    title = "MoCo v2"
    Config = MoCoV2Config
    presets = (
        Preset(
            "quick",
            "Quick: small MoCo v2, minutes on a CPU",
            "A small variant, not the paper's model: learns texture and pattern of a raster in about 3 minutes.",
            {
                "method": {
                    "name": "moco_v2",
                    "views": "quick",
                    "view_size": 32,
                    "queue": 2048,
                    "temperature": 0.2,
                    "momentum": 0.99,
                    "dimension": 64,
                },
                "encoder": {"name": "conv_small", "width": 192},
                "training": {
                    "minutes": 3,
                    "batch_size": 128,
                    "learning_rate": 1e-3,
                    "weight_decay": 0.05,
                    "optimizer": "adamw",
                    "beta2": 0.95,
                    "decay_all": True,
                    "warmup": 0.05,
                    "schedule": "step",
                    "clip_norm": 1,
                },
                "window": 40,
            },
        ),
        Preset(
            "moco_v2_official",
            "MoCo v2 as published, ResNet-50, for a GPU",
            "The paper's model and recipe: 200 passes over the windows, for many rasters and days on a GPU.",
            {
                "method": {
                    "name": "moco_v2",
                    "views": "published",
                    "view_size": 224,
                    "queue": 65536,
                    "temperature": 0.2,
                    "momentum": 0.999,
                    "dimension": 128,
                },
                "encoder": {"name": "resnet", "depth": "50"},
                "training": {
                    "minutes": 0,
                    "epochs": 200,
                    "batch_size": 256,
                    "learning_rate": 0.03,
                    "weight_decay": 1e-4,
                    "optimizer": "sgd",
                    "decay_all": True,
                    "warmup": 0,
                    "schedule": "epoch",
                    "clip_norm": 0,
                },
                "window": 224,
            },
        ),
    )
    average_due: Tensor

    def __init__(self, config: Any, encoder: Encoder) -> None:
        super().__init__(config, encoder)
        self.config: MoCoV2Config = config
        self.encoder = encoder
        self.projection = nn.Sequential(
            nn.Linear(encoder.width, encoder.width), nn.ReLU(), nn.Linear(encoder.width, config.dimension)
        )
        self.key_encoder = copy.deepcopy(encoder).requires_grad_(False)
        self.key_projection = copy.deepcopy(self.projection).requires_grad_(False)
        self.negatives = Queue(config.dimension, config.queue)
        self.register_buffer("average_due", torch.ones((), dtype=torch.bool))

    def loss(self, sample: Sample, progress: float) -> Loss:
        query, key = (
            draw_view(self.config.views, sample.pixels_BCHW, sample.valid_BHW, self.config.view_size) for _ in range(2)
        )
        logits_BK = self.compare(query.pixels_BCHW, key.pixels_BCHW)
        total = contrast(logits_BK)
        return Loss(total, {"contrast": total.item(), "top1": top(logits_BK, 1)})

    def after_step(self, progress: float) -> None:
        self.average_due.fill_(True)

    def compare(self, query_BCHW: Tensor, key_BCHW: Tensor, order_B: Tensor | None = None) -> Tensor:
        """Compare queries with their keys and the queue, then put the keys into the queue.

        The key encoder moves first, once for each step of the optimizer: with accumulated gradients every micro-batch
        enters the queue but only the first moves the average.

        Args:
            order_B: permutation of the keys before they are grouped for batch norm; drawn if not given.

        Returns:
            logits_BK: of 1 + K classes, the matching key first, divided by the temperature.
        """
        groups = self._groups(len(query_BCHW))
        query_BD = in_groups(self.encoder, self._encode_queries, query_BCHW, groups)
        self._move_average()
        key_BD = self._keys(key_BCHW, order_B, groups)
        with torch.autocast(query_BD.device.type, enabled=False):
            query_BD = functional.normalize(query_BD.float(), dim=1)
            key_BD = functional.normalize(key_BD.float(), dim=1)
            match_B1 = (query_BD * key_BD).sum(1, keepdim=True)
            others_BK = query_BD @ self.negatives.queue.clone()  # a copy: the keys replace part of it before backward
            logits_BK = torch.cat([match_B1, others_BK], dim=1) / self.config.temperature
        self.negatives.add(gather_rows(key_BD))
        return logits_BK

    @torch.no_grad()
    def _keys(self, key_BCHW: Tensor, order_B: Tensor | None, groups: int) -> Tensor:
        """Encode the keys in shuffled groups, so that no query shares its batch statistics with its own key."""
        if groups == 1:
            return self._encode_keys(key_BCHW)
        if order_B is None:
            order_B = torch.randperm(len(key_BCHW), device=key_BCHW.device)
        return in_groups(self.key_encoder, self._encode_keys, key_BCHW[order_B], groups)[order_B.argsort()]

    def _encode_queries(self, query_BCHW: Tensor) -> Tensor:
        query_BD: Tensor = self.projection(self.encoder.embedding(query_BCHW))
        return query_BD

    def _encode_keys(self, key_BCHW: Tensor) -> Tensor:
        key_BD: Tensor = self.key_projection(self.key_encoder.embedding(key_BCHW))
        return key_BD

    @torch.no_grad()
    def _move_average(self) -> None:
        """Move the key encoder's parameters, not its buffers, towards the encoder's."""
        if not self.average_due:
            return
        pairs = ((self.key_encoder, self.encoder), (self.key_projection, self.projection))
        for slow, fast in pairs:
            for average, parameter in zip(slow.parameters(), fast.parameters(), strict=True):
                average.mul_(self.config.momentum).add_(parameter, alpha=1 - self.config.momentum)
        self.average_due.fill_(False)

    def _groups(self, count: int) -> int:
        if count < 2 * self.config.bn_groups:
            raise UserError(
                f"A batch of {count} windows cannot be split into {self.config.bn_groups} groups of two or more. "
                "Make 'Batch size' larger, or 'Bn groups' smaller.",
                "method.bn_groups",
            )
        return self.config.bn_groups


def contrast(logits_BK: Tensor) -> Tensor:
    """Cross-entropy against the first class, the matching key."""
    return functional.cross_entropy(logits_BK, torch.zeros(len(logits_BK), dtype=torch.long, device=logits_BK.device))


def top(logits_BK: Tensor, count: int) -> float:
    """Share of queries whose matching key is among the `count` best."""
    best_BN = logits_BK.detach().topk(count, dim=1).indices
    return float((best_BN == 0).any(1).float().mean())
