"""How a step of training is made to fit into the memory.

First the blocks of transformers compute again on the way back what they would keep, which changes no number; then the
batch is computed in parts whose gradients add up.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, NamedTuple

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from rsfm import memory
from rsfm.blocks.ranks import most, rank, rehearsing
from rsfm.errors import UserError
from rsfm.method import Method
from rsfm.runs import Run, write_json
from rsfm.training.checkpoint import describe
from rsfm.training.compiling import Compiling
from rsfm.training.config import TrainingConfig

FILE = "memory.json"
FLOOR_BYTES, FLOOR_SHARE = 2**29, 0.05
"""What is left of the computer's memory to others: the smaller of the two."""
LOOK_EVERY_SECONDS = 0.02
WORDS = (
    "out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory",
    "could not create a primitive", "could not create a memory object",
)  # fmt: skip
"""In the errors of allocators; the last two are what oneDNN says."""
REHEARSALS = 2
"""Steps that each of several processes first takes alone: the second has the optimizer's memory besides."""
LOWER = "Lower 'Window', or choose a smaller 'Encoder'"


class Measures(NamedTuple):
    """What is done so that a step fits: blocks compute again, and a batch is computed in parts."""

    again: bool = False
    parts: int = 1


class Fit:
    """The measures of a training, kept in its run so that a later start needs not find them again."""

    def __init__(self, method: Method, config: TrainingConfig, run: Run, fabric: Fabric) -> None:
        self.fabric, self._method, self._run = fabric, method, run
        self.compiling = Compiling(method, config, fabric.device, run)
        self._watch, self._untold = True, False
        self._rehearsals, self._rehearsing = REHEARSALS if fabric.world_size > 1 else 0, False
        windows = config.batch_size // fabric.world_size
        self.measures = Measures(parts=-(-windows // (config.at_once or windows)))
        try:
            kept = json.loads((run.checkpoints / FILE).read_text(encoding="utf-8"))
            self.measures = Measures(kept["again"], max(kept["parts"], self.measures.parts))
        except (OSError, ValueError, KeyError):
            pass
        self._apply()

    def watching(self, device: torch.device) -> AbstractContextManager[Any]:
        """Raise MemoryError inside when the computer's memory is nearly full; a device says so itself."""
        if device.type != "cpu" or not self._watch:
            return nullcontext()
        return torch.autograd.graph.saved_tensors_hooks(look_at_memory(), lambda kept: kept)

    @contextmanager
    def rehearsal(self) -> Iterator[None]:
        """Find inside what makes a step fit, in this process alone; then all of them do the most that one needs.

        A process whose memory runs out in a step of all could not tell the others, which would wait for it.
        """
        self._rehearsals -= 1
        self._rehearsing = True
        try:
            with rehearsing():
                yield
        finally:
            self._rehearsing = False
        before = self.measures
        self.measures = self._of_all(before)
        self._untold |= self.measures != before
        self._apply()

    @property
    def is_rehearsal_due(self) -> bool:
        return self._rehearsals > 0

    def tighten(self, windows: int, device: torch.device, error: str) -> None:
        """Take the next measure, after a step of so many windows did not fit.

        Raises:
            UserError: there is none.
        """
        method, now = self._method, self.measures
        if self.fabric.world_size > 1 and not self._rehearsing:
            raise self._out_of_step(windows, device)
        if not now.again and any(_can_forget(module) for module in method.modules()):
            self.measures = now._replace(again=True)
        elif not method.indivisible and windows // (now.parts * 2) >= method.least:
            self.measures = now._replace(parts=now.parts * 2)
        elif self._watch and error == _NEARLY_FULL:
            self._watch = False
            self._run.warning("The computer's memory is nearly full. Close other programs.")
            return
        else:
            raise _no_fit(method, windows, now, device)
        self._untold = True
        self._apply()

    def tell(self, windows: int, device: torch.device) -> None:
        """Keep the measures, now that a step fits, and tell the user, once."""
        if not self._untold:
            return
        self._untold = False
        if rank() == 0:
            write_json(self._run.checkpoints / FILE, self.measures._asdict())
        self._run.warning(self.describe(windows, device))

    def describe(self, windows: int, device: torch.device) -> str:
        """Say what is done so that a step of so many windows fits."""
        said = f"The memory of {'the computer' if device.type == 'cpu' else device} is short:"
        parts = min(self.measures.parts, windows)
        if self.measures.again:
            said += " blocks compute again what they would keep, which takes about a third longer"
        if parts > 1:
            said += "," if self.measures.again else ""
            said += f" the {windows} windows of a step are computed in {parts} parts"
        if parts > 1 and any(isinstance(module, _BatchNorm) for module in self._method.modules()):
            return f"{said}. Batch norm sees the windows of one part, {-(-windows // parts)}, at once."
        return f"{said}. What is learned is the same."

    def _apply(self) -> None:
        self._method.parts = self.measures.parts
        if self.measures.again:
            compute_again(self._method)

    def _of_all(self, own: Measures) -> Measures:
        again, parts = most(torch.tensor([int(own.again), own.parts])).tolist()
        return Measures(bool(again), parts)

    def _out_of_step(self, windows: int, device: torch.device) -> UserError:
        """Leave to a resumed run what this one, whose processes no longer go in step, cannot do."""
        method, parts = self._method, self.measures.parts * 2
        if method.indivisible or windows // parts < method.least:
            return _no_fit(method, windows, self.measures, device)
        write_json(self._run.checkpoints / FILE, self.measures._replace(parts=parts)._asdict())
        return UserError(
            f"A process of several ran out of the memory of {device}. {describe(self._run.checkpoints)} Resume the "
            f"run: each process then computes the {windows} windows of its step in {parts} parts.",
            "training.at_once",
        )


def compute_again(method: nn.Module) -> None:
    """Let the blocks of transformers forget what they compute; the way back computes it again, to the same numbers."""
    for module in method.modules():
        if _can_forget(module):
            module.forward = partial(_forgetting, module.forward)


def is_short(error: BaseException) -> bool:
    """Tell whether an error says that memory ran out."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in WORDS)


def _can_forget(module: nn.Module) -> bool:
    """Find blocks of attention and a perceptron; none holds batch statistics, which must not be counted twice."""
    plain = not isinstance(module.forward, partial)
    return plain and hasattr(module, "attn") and hasattr(module, "mlp")


def _forgetting(forward: Callable[..., Tensor], *inputs: Any, **named: Any) -> Tensor:
    if not torch.is_grad_enabled():
        return forward(*inputs, **named)
    output: Tensor = checkpoint(forward, *inputs, use_reentrant=False, **named)
    return output


_NEARLY_FULL = "the computer's memory is nearly full"


def look_at_memory() -> Callable[[Tensor], Tensor]:
    """Make what looks at the memory as tensors are kept for the way back."""
    floor = min(FLOOR_BYTES, FLOOR_SHARE * memory.total())
    looked = 0.0

    def keep(tensor: Tensor) -> Tensor:
        nonlocal looked
        now = time.monotonic()
        if now - looked > LOOK_EVERY_SECONDS:
            looked = now
            if memory.available() < floor:
                raise MemoryError(_NEARLY_FULL)
        return tensor

    return keep


def _no_fit(method: Method, windows: int, now: Measures, device: torch.device) -> UserError:
    where = "this computer" if device.type == "cpu" else str(device)
    if method.indivisible:
        return UserError(
            f"{windows} windows do not fit the memory of {where}, and a batch cannot be computed in parts: "
            f"{method.indivisible} Lower 'Batch size'.",
            "training.batch_size",
        )
    fewest = -(-windows // now.parts)
    return UserError(f"Even {fewest} of {windows} windows do not fit the memory of {where}. {LOWER}.", "window")
