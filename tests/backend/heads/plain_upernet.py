"""UPerNet in float64 with numpy and loops, read off the specification: nothing of ours but the names of weights."""

import math

import numpy as np
import torch


def plain_upernet(weights, levels, scales):
    """Return psp_out and logits at the finest level."""
    named = {name.removeprefix("decode_head."): value.double().numpy() for name, value in weights.items()}
    maps = [level.double().numpy() for level in levels]
    top = maps[-1]
    parts = [top]
    for index, scale in enumerate(scales):
        pooled = unit(named, f"psp_modules.{index}.1", adaptive_mean(top, scale))
        parts.append(bilinear(pooled, top.shape[2:]))
    seen = unit(named, "bottleneck", np.concatenate(parts, axis=1))
    joined = [unit(named, f"lateral_convs.{index}", level) for index, level in enumerate(maps[:-1])] + [seen]
    for at in range(len(joined) - 1, 0, -1):
        joined[at - 1] = joined[at - 1] + bilinear(joined[at], joined[at - 1].shape[2:])
    smooth = [unit(named, f"fpn_convs.{index}", level) for index, level in enumerate(joined[:-1])] + [joined[-1]]
    stacked = np.concatenate([bilinear(level, smooth[0].shape[2:]) for level in smooth], axis=1)
    return torch.from_numpy(seen), torch.from_numpy(classify(named, unit(named, "fpn_bottleneck", stacked)))


def plain_auxiliary(weights, level):
    named = {name.removeprefix("auxiliary_head."): value.double().numpy() for name, value in weights.items()}
    features, index = level.double().numpy(), 0
    while f"convs.{index}.conv.weight" in named:
        features, index = unit(named, f"convs.{index}", features), index + 1
    return torch.from_numpy(classify(named, features))


def unit(named, name, maps):
    """Convolve without bias, normalise with the running statistics, and cut at 0."""
    weight = named[f"{name}.conv.weight"]
    side = weight.shape[2]
    padded = np.pad(maps, ((0, 0), (0, 0), (side // 2,) * 2, (side // 2,) * 2))
    rows, columns = maps.shape[2:]
    summed = sum(
        np.einsum("bihw,oi->bohw", padded[:, :, row : row + rows, column : column + columns], weight[:, :, row, column])
        for row in range(side)
        for column in range(side)
    )
    mean, var, scale, shift = (
        named[f"{name}.bn.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
    )
    return np.maximum((summed - mean) / np.sqrt(var + 1e-5) * scale + shift, 0)


def classify(named, maps):
    weight, bias = named["conv_seg.weight"][:, :, 0, 0], named["conv_seg.bias"]
    return np.einsum("bihw,oi->bohw", maps, weight) + bias[:, None, None]


def adaptive_mean(maps, scale):
    """Average over cells from floor(i * n / scale) to ceil((i + 1) * n / scale)."""
    rows, columns = maps.shape[2:]
    pooled = np.zeros((*maps.shape[:2], scale, scale))
    for row in range(scale):
        for column in range(scale):
            top, bottom = row * rows // scale, math.ceil((row + 1) * rows / scale)
            left, right = column * columns // scale, math.ceil((column + 1) * columns / scale)
            pooled[:, :, row, column] = maps[:, :, top:bottom, left:right].mean(axis=(2, 3))
    return pooled


def bilinear(maps, size):
    """Interpolate between the centres of cells; beyond the outermost centres the value stays."""
    for axis, length in ((2, size[0]), (3, size[1])):
        count = maps.shape[axis]
        at = np.clip((np.arange(length) + 0.5) * count / length - 0.5, 0, count - 1)
        low = np.floor(at).astype(int)
        share = (at - low).reshape([-1 if dimension == axis else 1 for dimension in range(4)])
        high = np.minimum(low + 1, count - 1)
        maps = np.take(maps, low, axis) * (1 - share) + np.take(maps, high, axis) * share
    return maps
