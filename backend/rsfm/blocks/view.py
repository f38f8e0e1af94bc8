"""A view: an augmented copy of a window, with what of it is valid.

Shape letters: B batch, C bands, H rows, W columns.
"""

from collections.abc import Callable
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
    count, bands = pixels_BCHW.shape[:2]
    device = pixels_BCHW.device
    pieces = split(count, bands * size[0] * size[1], device)
    if len(pieces) == 1:
        return make(pieces[0])
    made = View(pixels_BCHW.new_empty(count, bands, *size), torch.empty(count, *size, dtype=torch.bool, device=device))

    def fill(piece: slice) -> None:
        view, filled = make(piece), made.of(piece)
        filled.pixels_BCHW.copy_(view.pixels_BCHW)
        filled.valid_BHW.copy_(view.valid_BHW)

    in_threads(fill, pieces)
    return made
