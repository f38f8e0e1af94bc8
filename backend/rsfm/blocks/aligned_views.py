"""Pairs of views of the same rectangle, of which each has a light of its own.

Shen et al., 2025, PerA, arXiv:2505.19447.

Shape letters: B batch, C bands, H rows, W columns, S side of a view, V views, N = V * B rows of a pass.
"""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from rsfm.blocks.crops import cut
from rsfm.blocks.multicrop import usable
from rsfm.blocks.photometry import Light, relight
from rsfm.blocks.pieces import in_threads, split
from rsfm.blocks.resampling import Rectangles
from rsfm.blocks.validity import nothing_missing
from rsfm.blocks.view import View

FLAT = 0.01
"""Spread, in standard deviations of the raster, below which a view shows nothing."""


class DrawnPair(NamedTuple):
    """The rectangle of a pair of views of each window, and the light of either."""

    crop: Rectangles
    student: Light
    teacher: Light


def make_pairs(window: View, drawn: Sequence[DrawnPair], size: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Make the views that were drawn: those of student and teacher, what is valid, and which are usable."""
    count, bands = window.pixels_BCHW.shape[:2]
    student_NCSS, teacher_NCSS = (
        window.pixels_BCHW.new_empty(len(drawn) * count, bands, size, size) for _ in ("student", "teacher")
    )
    valid_NSS = window.valid_BHW.new_empty(len(drawn) * count, size, size)
    usable_N = window.valid_BHW.new_empty(len(drawn) * count)

    def make(view: int, piece: slice) -> None:
        rows = slice(view * count + piece.start, view * count + piece.stop)
        crop, student, teacher = drawn[view]
        plain = cut(*window.of(piece), crop.of(piece), size, "bilinear")
        student_NCSS[rows] = relight(plain, student.of(piece)).pixels_BCHW
        teacher_NCSS[rows] = relight(plain, teacher.of(piece)).pixels_BCHW
        valid_NSS[rows] = plain.valid_BHW
        usable_N[rows] = usable([plain])[0] & (spread_of(plain) > FLAT)

    pieces = split(count, bands * size**2, window.pixels_BCHW.device)
    in_threads(make, [(view, piece) for view in range(len(drawn)) for piece in pieces])
    return student_NCSS, teacher_NCSS, valid_NSS, usable_N


def spread_of(view: View) -> Tensor:
    """Return the standard deviation of the band of each window that varies most, spread_B; of valid pixels."""
    if nothing_missing(view.valid_BHW):
        apart_BCHW = view.pixels_BCHW - view.pixels_BCHW.mean((2, 3), keepdim=True)
        return apart_BCHW.square_().mean((2, 3)).amax(1).sqrt()
    weight_B1HW = view.valid_BHW[:, None].float()
    count_B111 = weight_B1HW.sum((2, 3), keepdim=True).clamp(min=1)
    mean_BC11 = (view.pixels_BCHW * weight_B1HW).sum((2, 3), keepdim=True) / count_B111
    square_BCHW = (view.pixels_BCHW - mean_BC11).square() * weight_B1HW
    return (square_BCHW.sum((2, 3)) / count_B111[:, :, 0, 0]).amax(1).sqrt()
