"""Attention in float32 on a CPU, whatever the rest computes in: gradients in bf16 take up to five times as long."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

HALVES = (torch.bfloat16, torch.float16)


@contextmanager
def fast_attention(method: nn.Module, device: torch.device) -> Iterator[None]:
    """Compute fused attention in float32 inside, on a CPU; what has none, or is elsewhere, is left as it is."""
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
            whole = [_float32(value) for value in args]
            return func(*whole, **{name: _float32(value) for name, value in kwargs.items()}).to(args[0].dtype)


def _float32(value: Any) -> Any:
    return value.float() if isinstance(value, torch.Tensor) and value.dtype in HALVES else value
