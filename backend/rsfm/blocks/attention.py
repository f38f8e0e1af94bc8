"""What the last block of a transformer attends to.

Caron et al., 2021, "Emerging Properties in Self-Supervised Vision Transformers", arXiv:2104.14294, figure 1.

Shape letters: B batch, C bands, H rows, W columns, A heads, S slices, L patches of a slice, T tokens (the class token,
S * L patches, others), h and w rows and columns of patches.
"""

from typing import Any

import torch
from torch import Tensor

from rsfm.blocks.transformer import PatchEncoder


@torch.no_grad()
def last_attention(encoder: PatchEncoder, pixels_BCHW: Tensor) -> Tensor:
    """Return attention_BAhw: how much of the window's vector each head takes from each patch, before normalisation.

    Where the vector is the class token, what that token attends to; where it is the mean of the patches, the mean of
    what they attend to. Slices of a window are summed. Attention to the class token itself is left out.
    """
    attend: Any = encoder.blocks[-1].attn  # type: ignore[index, union-attr]
    seen: list[Tensor] = []
    hook = attend.attn_drop.register_forward_hook(lambda _module, given, _result: seen.append(given[0]))
    fused, attend.fused_attn = attend.fused_attn, False  # a fused kernel never has the weights as a whole
    try:
        encoder.embedding(pixels_BCHW)
    finally:
        attend.fused_attn = fused
        hook.remove()
    rows, columns = encoder.patches(pixels_BCHW)
    weights_BATT = seen[-1].float()
    patches = (weights_BATT.shape[-1] - 1) // (rows * columns) * rows * columns
    asked_BAKT = weights_BATT[:, :, :1] if _by_class(encoder) else weights_BATT[:, :, 1 : 1 + patches]
    taken_BAN = asked_BAKT.mean(2)[..., 1 : 1 + patches]
    return taken_BAN.reshape(*taken_BAN.shape[:2], -1, rows, columns).sum(2)


def _by_class(encoder: PatchEncoder) -> bool:
    return getattr(encoder, "pooling", "mean") == "class"
