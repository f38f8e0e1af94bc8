"""Weights by a rule of whole numbers, for cases of networks that are too large to be stored.

The rule stands in the READMEs of those cases: a 64-bit number from a tensor's name and a seed starts the stream of
splitmix64 (Steele et al., 2014, "Fast Splittable Pseudorandom Number Generators"), and the end of the name says how the
stream is scaled.
"""

import math
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor


def rule_weights(shapes: Mapping[str, Sequence[int]], seed: int) -> dict[str, Tensor]:
    """Return the tensors of all names."""
    return {name: rule_tensor(name, tuple(shape), seed) for name, shape in shapes.items()}


def rule_tensor(name: str, shape: tuple[int, ...], seed: int) -> Tensor:
    """Return one tensor."""
    kind = name.rpartition(".")[2]
    if kind == "num_batches_tracked":
        return torch.zeros(shape, dtype=torch.int64)
    share_N = _stream(zlib.crc32(name.encode()) ^ (seed << 32), math.prod(shape))
    sign_N = 2 * share_N - 1
    if kind == "running_var":
        value_N = 1 + 0.5 * share_N
    elif kind in ("running_mean", "bias"):
        value_N = 0.1 * sign_N
    elif kind == "weight":
        value_N = sign_N * math.sqrt(3 / math.prod(shape[1:])) if len(shape) > 1 else 1 + 0.1 * sign_N
    else:
        value_N = 0.5 * sign_N
    return torch.from_numpy(value_N.astype(np.float32).reshape(shape))


def _stream(start: int, count: int) -> np.ndarray:
    """Return numbers from 0 to 1, in float64."""
    step, first, second = (np.uint64(number) for number in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
    with np.errstate(over="ignore"):
        number_N = np.uint64(start % 2**64) + np.arange(1, count + 1, dtype=np.uint64) * step
        number_N = (number_N ^ (number_N >> np.uint64(30))) * first
        number_N = (number_N ^ (number_N >> np.uint64(27))) * second
    number_N = number_N ^ (number_N >> np.uint64(31))
    return (number_N >> np.uint64(11)).astype(np.float64) * 2.0**-53
