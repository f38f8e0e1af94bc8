"""Keep the vectors of a batch apart from each other (KoLeo).

Sablayrolles et al., 2019, "Spreading vectors for similarity search", arXiv:1806.03198.

Shape letters: B batch, N windows counted, K features, A windows of all processes.
"""

import torch
from torch import Tensor
from torch.nn import functional

from rsfm.blocks.ranks import gather_rows, gather_with_gradient, mean_of_all, rank

ALIKE = 1e-5
"""Distance below which two windows count as the same one: its inverse is how hard they would be pushed apart."""


def spread(logits_BK: Tensor, usable_B: Tensor) -> Tensor:
    """Tell how close windows are to their nearest neighbours of the batch of all processes, on the unit sphere.

    Windows that are the same, such as constant ones, are left out: they would be pushed apart without end. 0 where
    nothing is left.
    """
    unit_BK = functional.normalize(logits_BK, dim=1, eps=1e-8)
    every_AK = gather_with_gradient(unit_BK)
    first = rank() * len(unit_BK)
    with torch.no_grad():
        usable_A = gather_rows(usable_B)
        cosine_BA = (unit_BK @ every_AK.T).masked_fill(~usable_A[None], -2)
        cosine_BA[:, first : first + len(unit_BK)].fill_diagonal_(-2)
        nearest_B = cosine_BA.argmax(1)
        alike_B = (unit_BK - every_AK[nearest_B]).norm(dim=1) < ALIKE
        counted_B = usable_B & usable_A[nearest_B] & ~alike_B
    apart_NK = unit_BK[counted_B] - every_AK[nearest_B[counted_B]]
    distance_N = torch.linalg.vector_norm(apart_NK + 1e-8, dim=1)
    return mean_of_all(-(distance_N + 1e-8).log().sum(), counted_B.sum())
