"""UPerNet's two heads against mmsegmentation's: the maps of an encoder in, logits out, in eval mode.

Shape letters: B batch, K classes, h and w rows and columns of a map.
"""

import re
from collections.abc import Iterator
from typing import TypeVar

import torch
from torch import Tensor, nn

from rsfm.golden import Case, Check, Golden
from rsfm.heads.upernet import AuxiliaryHead, UPerHead

T = TypeVar("T", bound=nn.Module)
TOLERANCE = 2e-5


class UPerNetCase(Golden):
    name = "upernet"

    @torch.no_grad()
    def checks(self, case: Case) -> Iterator[Check]:
        weights, config = case.weights("weights.safetensors"), case.config
        names = sorted((name for name in case.arrays if re.fullmatch(r"feat\d+", name)), key=lambda name: int(name[4:]))
        levels = [case.tensor(name) for name in names]
        head = _load(_decode_head(weights, levels, list(config["pool_scales"])), weights, "decode_head")
        yield from case.check("psp_out", head.pool(levels[-1]), atol=TOLERANCE)
        yield from case.check("logits", head(levels), atol=TOLERANCE)
        if "aux_logits" in case:
            auxiliary = _load(_auxiliary_head(weights, levels[-2]), weights, "auxiliary_head")
            yield from case.check("aux_logits", auxiliary(levels[-2]), atol=TOLERANCE)


def _decode_head(weights: dict[str, Tensor], levels: list[Tensor], scales: list[int]) -> UPerHead:
    classes, fusion = weights["decode_head.conv_seg.weight"].shape[:2]
    channels = weights["decode_head.bottleneck.conv.weight"].shape[0]
    return UPerHead([level.shape[1] for level in levels], channels, fusion, classes, scales)


def _auxiliary_head(weights: dict[str, Tensor], level: Tensor) -> AuxiliaryHead:
    classes, channels = weights["auxiliary_head.conv_seg.weight"].shape[:2]
    found = [name for name in weights if re.fullmatch(r"auxiliary_head\.convs\.\d+\.conv\.weight", name)]
    return AuxiliaryHead(level.shape[1], channels, classes, len(found))


def _load(module: T, weights: dict[str, Tensor], prefix: str) -> T:
    """Give a module all weights of a prefix, under the names they have."""
    module.load_state_dict(
        {name.removeprefix(f"{prefix}."): value for name, value in weights.items() if name.startswith(f"{prefix}.")}
    )
    return module.eval()
