"""Many views of a window, two large and several small ones, as DINO draws them.

Caron et al., 2020, arXiv:2006.09882 (multi-crop); Caron et al., 2021, arXiv:2104.14294 (recipe).

Shape letters: B batch, C bands, H rows, W columns, V views, N rows of a pass, D features.
"""

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor

from rsfm.blocks.crops import Limits, cut, draw_crop
from rsfm.blocks.photometry import Chances, Light, draw_light, relight
from rsfm.blocks.resampling import Rectangles
from rsfm.blocks.view import View, make_all_in_pieces

FIRST = Chances(blur=1.0)
SECOND = Chances(blur=0.1, invert=0.2)
SMALL = Chances(blur=0.5)


class DrawnView(NamedTuple):
    """A view with the rectangle it was cut from, and its side."""

    view: View
    crop: Rectangles
    size: int


def draw_views(
    window: View,
    sizes: tuple[int, int],
    areas: Sequence[tuple[float, float]],
    published_size: int = 224,
    drop: Callable[[Tensor], Tensor] | None = None,
) -> list[DrawnView]:
    """Draw two large views and a small one for each further entry of `areas`.

    Args:
        sizes: side of large and of small views.
        areas: least and greatest share of the window's area, of each view.
        published_size: side of a large view in the recipe; the blur is drawn for it.
        drop: takes bands out of the pixels of a view.
    """
    count, _, height, width = window.pixels_BCHW.shape
    device = window.pixels_BCHW.device
    limits = Limits.find(window.pixels_BCHW)
    wanted, crops = [], []
    for index, area in enumerate(areas):
        size = sizes[0] if index < 2 else sizes[1]
        crop = draw_crop(count, height, width, area, device)
        chances = (FIRST, SECOND)[index] if index < 2 else SMALL
        light = draw_light(count, chances, sizes[0] / published_size, device)

        def make(piece: slice, crop: Rectangles = crop, light: Light = light, size: int = size) -> View:
            plain = cut(*window.of(piece), crop.of(piece), size, "bicubic", limits.of(piece))
            return relight(plain, light.of(piece))

        wanted.append((make, (size, size)))
        crops.append(crop)
    views = make_all_in_pieces(wanted, window.pixels_BCHW)
    if drop is not None:
        views = [View(drop(pixels_BCHW), valid_BHW) for pixels_BCHW, valid_BHW in views]
    return [DrawnView(view, crop, view.valid_BHW.shape[2]) for view, crop in zip(views, crops, strict=True)]


def equal_parts(low: float, high: float, parts: int) -> list[tuple[float, float]]:
    """Cut a range into equal parts, the lowest first: SatDINO's uniform sampling of views."""
    step = (high - low) / max(parts, 1)
    return [(low + index * step, low + (index + 1) * step) for index in range(parts)]


def in_passes(forward: Callable[[Tensor], Tensor], views: Sequence[Tensor]) -> Tensor:
    """Run `forward` once for all consecutive views of one size; return what it gives for each view, results_VBD."""
    results = []
    for _, group in groupby(views, key=lambda view: view.shape):
        same = list(group)
        found_ND = forward(torch.cat(same))
        results.append(found_ND.reshape(len(same), -1, *found_ND.shape[1:]))
    return torch.cat(results)


def usable(views: Sequence[View]) -> Tensor:
    """Tell which views have at least half of their pixels valid, usable_VB."""
    return torch.stack([view.valid_BHW.flatten(1).float().mean(1) >= 0.5 for view in views])
