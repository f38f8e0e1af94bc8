"""Three disjoint parts of a window's patches: what the student sees, what it must imagine, what the teacher sees.

Shen et al., 2025, PerA, arXiv:2505.19447.

Shape letters: B batch, L patches, K patches of a part, D width.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from rsfm.blocks.masking import take


class Regions(NamedTuple):
    """Boolean masks of the patches of each window; every window has as many patches in a part as every other."""

    student_BL: Tensor
    learnable_BL: Tensor
    teacher_BL: Tensor


def counts(patches: int, student: float, teacher: float) -> tuple[int, int, int]:
    """Tell how many patches the student sees, must imagine, and the teacher sees; halves are rounded to even."""
    seen, before_teacher = round(patches * student), round(patches * (1 - teacher))
    return seen, before_teacher - seen, patches - before_teacher


def split_regions(rank_BL: Tensor, student: float, teacher: float) -> Regions:
    """Give the lowest ranks to the student and the highest to the teacher.

    Args:
        rank_BL: a permutation of the patches of each window.
    """
    seen, learnable, _ = counts(rank_BL.shape[1], student, teacher)
    return Regions(rank_BL < seen, (rank_BL >= seen) & (rank_BL < seen + learnable), rank_BL >= seen + learnable)


def select(tokens_BLD: Tensor, mask_BL: Tensor) -> Tensor:
    """Take tokens_BKD of a part, in the order of the window."""
    return take(tokens_BLD, places(mask_BL))


def places(mask_BL: Tensor) -> Tensor:
    """Return the indices_BK of a part, in the order of the window."""
    return mask_BL.nonzero()[:, 1].reshape(len(mask_BL), -1)


def interleave(first_BKD: Tensor, second_BKD: Tensor, first_BL: Tensor, second_BL: Tensor) -> tuple[Tensor, Tensor]:
    """Merge the tokens of two parts in the order of the window.

    Returns:
        tokens_BLD: of both parts.
        second_BL: where among them those of the second part are.
    """
    order_BL = torch.cat([places(first_BL), places(second_BL)], dim=1).argsort(dim=1)
    tokens_BLD = take(torch.cat([first_BKD, second_BKD], dim=1), order_BL)
    return tokens_BLD, order_BL >= first_BKD.shape[1]
