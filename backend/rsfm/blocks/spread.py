"""Keep the vectors of a batch apart from each other (KoLeo).

Sablayrolles et al., 2019, "Spreading vectors for similarity search", arXiv:1806.03198.

Shape letters: B batch, N windows counted, K features.
"""

import torch
from torch import Tensor
from torch.nn import functional

ALIKE = 1e-5
"""Distance below which two windows count as the same one: its inverse is how hard they would be pushed apart."""


def spread(logits_BK: Tensor, usable_B: Tensor) -> Tensor:
    """Tell how close windows are to their nearest neighbours, on the unit sphere.

    Windows that are the same, such as constant ones, are left out: they would be pushed apart without end. 0 where
    nothing is left.
    """
    unit_BK = functional.normalize(logits_BK, dim=1, eps=1e-8)
    with torch.no_grad():
        cosine_BB = (unit_BK @ unit_BK.T).masked_fill(~usable_B[None], -2).fill_diagonal_(-2)
        nearest_B = cosine_BB.argmax(1)
        alike_B = (unit_BK - unit_BK[nearest_B]).norm(dim=1) < ALIKE
        counted_B = usable_B & usable_B[nearest_B] & ~alike_B
    if not counted_B.any():
        return logits_BK.sum() * 0
    apart_NK = unit_BK[counted_B] - unit_BK[nearest_B[counted_B]]
    distance_N = torch.linalg.vector_norm(apart_NK + 1e-8, dim=1)
    total: Tensor = -(distance_N + 1e-8).log().mean()
    return total
