"""What comparisons of methods share: names, gradients, a step of the optimizer and the teacher that follows it.

Tolerances are those of the READMEs of the self-distillations, in float32 on a CPU.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rsfm.errors import UserError
from rsfm.golden import Case, Check, compare

VALUE = {"atol": 1e-5}
WHOLE = {"rtol": 1e-5, "atol": 2e-5}
SCHEDULE = {"atol": 1e-12}
ADAMW = {"atol": 1e-4}


def load_weights(
    case: Case, module: nn.Module, our_name: Callable[[str], str], file: str = "weights.safetensors"
) -> None:
    """Load all weights of a file of a case; entries of theirs whose name becomes empty are left out.

    Raises:
        UserError: they are not exactly the parts that the module has.
    """
    weights = {our_name(name): value for name, value in case.weights(file).items()}
    weights.pop("", None)
    own = {name: value.shape for name, value in module.state_dict().items()}
    wrong = set(own) ^ set(weights) or {name for name in own if own[name] != weights[name].shape}
    if wrong:
        raise UserError(f"The weights of '{case.folder}' do not fit its config: {sorted(wrong)[:5]}.")
    module.load_state_dict(weights)


def settings(case: Case, fields: str, floats: str) -> dict[str, Any]:
    """Return the numbers of a case by their names, given in the order they stand in.

    Those with a fraction are stored in float32; what is returned are the decimal numbers that were meant.
    """
    found = dict(zip(fields.split(), case.array("cfg").tolist(), strict=True))
    decimals = [float(str(value)) for value in np.asarray(case.array("cfg_float"), np.float32)]
    return found | dict(zip(floats.split(), decimals, strict=True))


def renaming(prefixes: Mapping[str, str]) -> Callable[[str], str]:
    """Return what translates a name of the authors' into ours: the first prefix that fits is replaced."""

    def our_name(name: str) -> str:
        for prefix, ours in prefixes.items():
            if name.startswith(prefix):
                return ours + name[len(prefix) :]
        return name

    return our_name


def gradients(module: nn.Module, our_name: Callable[[str], str], names: list[str]) -> dict[str, Tensor]:
    """Return by their names the gradients that are there."""
    ours = dict(module.named_parameters())
    found = {name: ours[our_name(name)].grad for name in names if our_name(name) in ours}
    return {name: gradient.clone() for name, gradient in found.items() if gradient is not None}


def check_each(
    case: Case, prefix: str, ours: Callable[[str], Tensor | None], tolerance: Mapping[str, float], end: str = ""
) -> Iterator[Check]:
    """Compare all arrays whose name starts with a prefix; the rest of it, less `end`, says which tensor it is."""
    for name in case.arrays:
        if name.startswith(prefix) and name.endswith(end):
            tensor = ours(name[len(prefix) : len(name) - len(end)])
            if tensor is None:
                yield Check(name, float("inf"), 0.0)
                continue
            yield compare(name, tensor, case.array(name), **{"atol": 0.0, "rtol": 0.0, **tolerance})


def check_names(case: Case, key: str, ours: set[str]) -> Iterator[Check]:
    """Compare a list of names, in any order."""
    if key in case:
        yield Check(key, len(ours ^ {str(name) for name in case.array(key).tolist()}), 0)


def check_norms(case: Case, key: str, names: list[str], tensors: Mapping[str, Tensor]) -> Iterator[Check]:
    """Compare the norms of whole tensors, in the order of `names`."""
    if key in case:
        norms = [tensors[name].double().norm().item() if name in tensors else float("nan") for name in names]
        yield from case.check(key, norms, **WHOLE)


def check_average(
    case: Case, tensors: Mapping[str, Tensor], names: list[str], tolerance: Mapping[str, float] = VALUE
) -> Iterator[Check]:
    """Compare the teacher after its step: some tensors, the norm and the sum of each."""
    yield from check_norms(case, "ema_param_norms", names, tensors)
    if "ema_param_sums" in case:
        yield from case.check("ema_param_sums", [tensors[name].double().sum().item() for name in names], **WHOLE)
    yield from check_each(case, "ema_after/", tensors.get, tolerance)


def without_keys(name: str, tensor: Any) -> Any:
    """Leave out the bias of the keys: its gradient is zero, so that AdamW's first step on it is rounding noise."""
    if not name.endswith("qkv.bias"):
        return tensor
    width = len(tensor) // 3
    return np.delete(np.asarray(tensor.detach() if isinstance(tensor, Tensor) else tensor), slice(width, 2 * width))


def decayed(optimizer: torch.optim.Optimizer, module: nn.Module) -> tuple[set[str], set[str]]:
    """Return our names of what decays, and of what does not."""
    decays = {id(value): group["weight_decay"] > 0 for group in optimizer.param_groups for value in group["params"]}
    names = {name: decays[id(value)] for name, value in module.named_parameters() if id(value) in decays}
    return {name for name in names if names[name]}, {name for name in names if not names[name]}
