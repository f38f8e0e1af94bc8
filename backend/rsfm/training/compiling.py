"""Compiles what a network repeats, its blocks, when the training is long enough to earn that.

Blocks are compiled where they stand: names of weights, checkpoints and copies stay as they are. What compiles anew for
each shape is small this way, and blocks of one kind share what was compiled for them.
"""

import copy
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from rsfm.blocks.drop_path import SampleDropPath, SubsetDropPath
from rsfm.blocks.ranks import ranks
from rsfm.errors import UserError
from rsfm.runs import Run
from rsfm.training.config import TrainingConfig
from rsfm.training.finite import NotFinite

log = logging.getLogger(__name__)

BACKEND = "inductor"
VARIANTS = 64
"""Of one kind of block, by shapes and by what has gradients; beyond these it is computed uncompiled."""
EARNING_SECONDS = 1200.0


def is_earned(wanted: str, device: str, processes: int, seconds_left: float) -> bool:
    """Tell whether to compile.

    By itself only on a CUDA GPU with at least 20 minutes to go: compiling takes minutes, for each shape of views and
    both ways, and saves a part of what lies between the products of matrices, so that in less time it would not come
    back. On a CPU those products take nearly all of the time, and they stay as they are: 0.95 to 1.1 times as fast was
    measured. Several processes do not compile: one that cannot would leave the others waiting.

    Args:
        wanted: "automatic", "yes" or "no".
        device: its kind.
        seconds_left: of the training; 0 while that is unknown.
    """
    if wanted == "no" or processes > 1:
        return False
    return wanted == "yes" or (device == "cuda" and seconds_left >= EARNING_SECONDS and _has_triton())


class Compiling:
    """Whether the blocks of a method are computed compiled; they are inside of it, during a step.

    What is done rarely, or in other shapes, such as validation, earns no compiling.

    Attributes:
        on: they are now.
        used: they are in each step.
    """

    def __init__(self, method: nn.Module, config: TrainingConfig, device: torch.device, run: Run) -> None:
        self.on = self.used = self._begun = False
        self._untold = ""
        self._method, self._wanted, self._device, self._run = method, config.compile, device, run

    def __enter__(self) -> None:
        self.on = self.used

    def __exit__(self, *_: object) -> None:
        self.on = False

    def consider(self, seconds_left: float) -> None:
        """Compile from the next step on if that is earned, once."""
        if self._begun or not is_earned(self._wanted, self._device.type, ranks(), seconds_left):
            return
        self._begun = self.used = True
        try:
            for kind in (SampleDropPath, SubsetDropPath):  # each block's rate would be compiled by itself
                kind.forward = torch.compiler.disable(kind.forward)  # type: ignore[method-assign, no-untyped-call]
            for block in repeated(self._method):
                _prepare(block, self)
        except Exception as error:
            self.give_up(error)

    def give_up(self, error: Exception) -> bool:
        """Compute uncompiled from now on, after a step failed; tells whether that can help."""
        if not self.used or isinstance(error, (UserError, NotFinite)):
            return False
        self.used = False
        log.warning("The step failed compiled.", exc_info=error)
        cause = getattr(error, "inner_exception", error)
        first = next(iter(str(cause).strip().splitlines()), "")[:200]
        self._untold = f"The network could not be compiled ({type(cause).__name__}: {first}), and learns uncompiled."
        return True

    def tell(self) -> None:
        """Warn, once, now that a step went well uncompiled: it was not the step's own fault."""
        if self._untold:
            self._run.warning(self._untold)
            self._untold = ""


class Compiled:
    """The forward of a block, compiled while `compiling` is on; a copy of the block has its own, uncompiled."""

    def __init__(self, plain: Callable[..., Any], compiling: Compiling) -> None:
        self.compiling, self._plain = compiling, plain
        options = {"fallback_random": True} if BACKEND == "inductor" else None  # draws as uncompiled blocks do
        make: Any = torch.compile  # whose types do not know the limit
        self._fast = make(plain, backend=BACKEND, dynamic=False, options=options, recompile_limit=VARIANTS)

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        return (self._fast if self.compiling.on else self._plain)(*inputs, **named)

    def __deepcopy__(self, memo: dict[int, Any]) -> Callable[..., Any]:
        copied: Callable[..., Any] = copy.deepcopy(self._plain, memo)
        return copied


def _prepare(block: nn.Module, compiling: Compiling) -> None:
    """Let a block be computed compiled, also one that computes again on the way back."""
    if isinstance(block.forward, partial):
        block.forward = partial(block.forward.func, Compiled(block.forward.args[0], compiling))
    else:
        block.forward = Compiled(block.forward, compiling)


def repeated(method: nn.Module) -> list[nn.Module]:
    """Find the blocks that a network repeats: of attention and a perceptron, or of convolutions and batch norms."""
    rows = [module for module in method.modules() if isinstance(module, (nn.Sequential, nn.ModuleList))]
    found = [block for row in rows for block in row if _is_block(block)]
    inner = {module for block in found for module in block.modules() if module is not block}
    return [block for block in dict.fromkeys(found) if block not in inner]


def was_compiled(method: nn.Module) -> bool:
    """Tell whether a method's blocks were computed compiled, to the last step."""
    forwards = [module.forward for module in method.modules()]
    plain = [forward.args[0] if isinstance(forward, partial) else forward for forward in forwards]
    return any(isinstance(forward, Compiled) and forward.compiling.used for forward in plain)


def failed_to_compile(error: BaseException) -> bool:
    """Tell whether an error came out of a compiler, rather than out of what was compiled."""
    return type(error).__module__.startswith(("torch._dynamo", "torch._inductor", "torch._functorch", "triton"))


def _is_block(module: nn.Module) -> bool:
    if isinstance(module, (nn.Sequential, nn.ModuleList)):
        return False
    if hasattr(module, "attn") and hasattr(module, "mlp"):
        return True
    parts = list(module.modules())
    return any(isinstance(part, nn.Conv2d) for part in parts) and any(isinstance(part, _BatchNorm) for part in parts)


def _has_triton() -> bool:
    from torch.utils._triton import has_triton

    return has_triton()
