"""How a value such as the learning rate changes with the epochs; shares of its peak unless said otherwise."""

import math
from collections.abc import Sequence


def cosine(progress: float) -> float:
    """Fall from 1 to 0 along half a cosine as progress goes from 0 to 1."""
    return 0.5 * (1 + math.cos(math.pi * progress))


def cosine_by_epoch(epoch: float, epochs: float) -> float:
    """Fall along half a cosine, constant inside an epoch, as MoCo v2 does."""
    return cosine(math.floor(epoch) / epochs)


def steps_by_epoch(epoch: float, milestones: Sequence[float], factor: float = 0.1) -> float:
    """Multiply by `factor` at each milestone, as MoCo v1 does."""
    return math.prod(factor for milestone in milestones if epoch >= milestone)


def warmup_cosine(epoch: float, epochs: float, warmup: float, peak: float, low: float = 0.0) -> float:
    """Rise from 0 to `peak` in `warmup` epochs, then fall along half a cosine to `low`, as MAE does.

    Args:
        epoch: fractional, so that every step has its own value.
    """
    if epoch < warmup:
        return peak * epoch / warmup
    return low + (peak - low) * cosine((epoch - warmup) / (epochs - warmup))


def warmup_cosine_inclusive(step: int, steps: int, warmup: int, peak: float, low: float = 0.0) -> float:
    """Rise from 0 to `peak` in `warmup` steps, both ends included, then fall along half a cosine, as DINO does.

    The last step, steps - 1, does not quite reach `low`.
    """
    if step < warmup:
        return peak * step / max(warmup - 1, 1)
    return low + (peak - low) * cosine((step - warmup) / (steps - warmup))


def ease(progress: float, first: float, last: float) -> float:
    """Go from `first` to `last` along half a cosine as progress goes from 0 to 1."""
    return last + (first - last) * cosine(progress)


def climb(progress: float, share: float, first: float, last: float, steps: int = 0) -> float:
    """Go from `first` to `last` in the first share of a training, then stay.

    Args:
        steps: of equal length, the first at `first` and the last at `last`, such as epochs; 0 climbs smoothly.
    """
    if progress >= share or steps == 1:
        return last
    if steps == 0:
        return first + (last - first) * progress / share
    step = math.floor(progress / share * steps + 1e-9)  # an epoch's first step may fall a rounding error short of it
    return first + (last - first) * min(step / (steps - 1), 1)
