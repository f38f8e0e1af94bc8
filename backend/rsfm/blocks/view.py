"""A view: an augmented copy of a window, with what of it is valid.

Shape letters: B batch, C bands, H rows, W columns.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from rsfm.blocks.pieces import in_threads, split
from rsfm.blocks.validity import nothing_missing

BLACK = 2.0
"""Standard deviations below the mean that count as black where a change is relative to black."""


class View(NamedTuple):
    """One augmented copy of each window: pixels_BCHW, 0 where invalid, and valid_BHW."""

    pixels_BCHW: Tensor
    valid_BHW: Tensor

    def of(self, piece: slice) -> "View":
        """Return some of the windows."""
        return View(self.pixels_BCHW[piece], self.valid_BHW[piece])

    def cleared(self) -> "View":
        """Set what is invalid to 0, in place."""
        if not nothing_missing(self.valid_BHW):
            self.pixels_BCHW.mul_(self.valid_BHW[:, None])
        return self


def make_in_pieces(make: Callable[[slice], View], pixels_BCHW: Tensor, size: tuple[int, int]) -> View:
    """Make views of a size piece by piece of the batch; `make` draws nothing at random."""
    return make_all_in_pieces([(make, size)], pixels_BCHW)[0]


def make_all_in_pieces(
    wanted: Sequence[tuple[Callable[[slice], View], tuple[int, int]]], pixels_BCHW: Tensor
) -> list[View]:
    """Make several views of each window side by side, each by its own function and of its own size."""
    count, bands = pixels_BCHW.shape[:2]
    device = pixels_BCHW.device
    pieces = [split(count, bands * height * width, device) for _, (height, width) in wanted]
    if device.type != "cpu" or sum(map(len, pieces)) == 1:
        return [make(slice(0, count)) for make, _ in wanted]
    made = [
        View(pixels_BCHW.new_empty(count, bands, *size), torch.empty(count, *size, dtype=torch.bool))
        for _, size in wanted
    ]

    def fill(view: int, piece: slice) -> None:
        found, filled = wanted[view][0](piece), made[view].of(piece)
        filled.pixels_BCHW.copy_(found.pixels_BCHW)
        filled.valid_BHW.copy_(found.valid_BHW)

    in_threads(fill, [(view, piece) for view, of_view in enumerate(pieces) for piece in of_view])
    return made
