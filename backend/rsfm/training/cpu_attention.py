"""Attention on a CPU whose rest computes in bf16: torch's own takes up to five times as long there for its gradients.

Scores and their softmax are in float32, as inside of fused attention. Of few tokens they are written out, which is
faster still; gradients are then nearer to the exact ones than those of fused attention in bf16.

Shape letters: B batch, H heads, N tokens, D width of a head.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

HALVES = (torch.bfloat16, torch.float16)
FEW = 128
"""Tokens up to which attention is written out."""


@contextmanager
def fast_attention(method: nn.Module, device: torch.device) -> Iterator[None]:
    """Compute the scores of attention in float32 inside, on a CPU; what has none, or is elsewhere, is left as it is."""
    if device.type != "cpu" or not any(name.endswith("attn") for name, _ in method.named_modules()):
        yield
        return
    with _Float32Attention():
        yield


class _Float32Attention(TorchFunctionMode):
    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is not functional.scaled_dot_product_attention or args[0].dtype not in HALVES:
            return func(*args, **kwargs)
        with torch.autocast("cpu", enabled=False):
            return _attend(*args, **kwargs)


def _attend(
    query_BHND: Tensor,
    key_BHND: Tensor,
    value_BHND: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    **others: Any,
) -> Tensor:
    """Return attended_BHND in the type of the queries; takes what torch's own does."""
    query, key, mask = query_BHND.float(), key_BHND.float(), attn_mask
    if mask is not None and mask.dtype in HALVES:
        mask = mask.float()
    added = mask is None or mask.is_floating_point()
    if key.shape[-2] > FEW or dropout_p or is_causal or others or not added:
        value = value_BHND.float()
        whole = functional.scaled_dot_product_attention(query, key, value, mask, dropout_p, is_causal, **others)
        return whole.to(query_BHND.dtype)
    scores_BHNN = (query * query.shape[-1] ** -0.5) @ key.mT
    shares_BHNN = (scores_BHNN if mask is None else scores_BHNN + mask).softmax(-1)
    attended_BHND: Tensor = shares_BHNN.to(value_BHND.dtype) @ value_BHND
    return attended_BHND
