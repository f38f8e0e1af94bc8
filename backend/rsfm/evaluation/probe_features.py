"""What a frozen encoder says of a whole window, as DINO and SatDINO hand it to nearest neighbours and linear probes.

Caron et al., 2021, arXiv:2104.14294 (appendix F); Straka et al., 2025, "SatDINO".

Shape letters: B batch, C bands, H rows, W columns, T tokens, D width, F features.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from rsfm.encoder import Encoder

SCALES = (0.125, 0.25, 0.5, 1.0)
"""Shares of a window's side at which SatDINO looks at it."""
LARGER = 256 / 224
"""A window is made larger by this much, and its middle is taken."""
LAST_BLOCKS = 4
WIDE = 768
"""From this width on, DINO probes the last class token beside the mean of the patches, and not four class tokens."""


def scaled_side(side: int, scale: float, patch: int) -> int:
    """Return the side of a window at a scale: whole patches, one at least."""
    return max(int(side * scale) // patch, 1) * patch


def look_at(pixels_BCHW: Tensor, side: int) -> Tensor:
    """Resize square windows to a little more than a side, and take the middle."""
    larger = round(side * LARGER)
    if pixels_BCHW.shape[2:] != (larger, larger):
        pixels_BCHW = functional.interpolate(pixels_BCHW, (larger, larger), mode="bicubic", antialias=True)
    start = round((larger - side) / 2)
    return pixels_BCHW[:, :, start : start + side, start : start + side]


def reads_class_token(encoder: Encoder) -> bool:
    """Tell whether an encoder's vector of a window is the last class token of a transformer."""
    return hasattr(encoder, "blocks") and getattr(encoder, "pooling", "") == "class"


def block_tokens(encoder: Encoder, pixels_BCHW: Tensor, count: int) -> list[Tensor]:
    """Return what each of the last blocks of a transformer gives, after the final norm: tokens_BTD, oldest first."""
    parts: Any = encoder
    found: list[Tensor] = []
    hooks = [block.register_forward_hook(lambda *given: found.append(given[2])) for block in parts.blocks[-count:]]
    try:
        encoder.feature_maps(pixels_BCHW)
    finally:
        for hook in hooks:
            hook.remove()
    return [parts.norm(tokens_BTD) for tokens_BTD in found]


def class_tokens(encoder: Encoder, pixels_BCHW: Tensor, count: int) -> Tensor:
    """Return the class tokens of the last blocks side by side, oldest first: features_BF."""
    return torch.cat([tokens_BTD[:, 0] for tokens_BTD in block_tokens(encoder, pixels_BCHW, count)], dim=1)


def class_and_mean(encoder: Encoder, pixels_BCHW: Tensor) -> Tensor:
    """Return the last class token and the mean of the patches, number by number in turn: features_BF."""
    tokens_BTD = block_tokens(encoder, pixels_BCHW, 1)[0]
    patches = tokens_BTD.shape[1] - getattr(encoder, "last_tokens", 0)
    return torch.stack([tokens_BTD[:, 0], tokens_BTD[:, 1:patches].mean(1)], dim=2).flatten(1)


def linear_features(encoder: Encoder, pixels_BCHW: Tensor) -> Tensor:
    """Return what DINO fits a linear probe on; the vector of an encoder whose class token nothing was learnt by."""
    if not reads_class_token(encoder):
        return encoder.embedding(pixels_BCHW)
    if encoder.width >= WIDE:
        return class_and_mean(encoder, pixels_BCHW)
    return class_tokens(encoder, pixels_BCHW, LAST_BLOCKS)


def patch_of(encoder: Encoder) -> int:
    """Return what sides of windows are multiples of: the patch, or the pixels of a cell of the last map."""
    return math.lcm(int(getattr(encoder, "patch_size", 1)), encoder.stride)
