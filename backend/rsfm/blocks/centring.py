"""Centring and sharpening of a teacher's outputs, which together keep a self-distillation from collapsing.

Caron et al., 2021, arXiv:2104.14294, equation 4.

Shape letters: N rows, K prototypes, Q teacher views, V student views, B batch.
"""

import torch
from torch import Tensor, nn

from rsfm.blocks.ranks import gather_rows, mean_of_all, total


class Centre(nn.Module):
    """The slow mean of raw teacher logits, center_1K."""

    center: Tensor

    def __init__(self, prototypes: int) -> None:
        super().__init__()
        self.register_buffer("center", torch.zeros(1, prototypes))

    def probabilities(self, logits_NK: Tensor, temperature: float) -> Tensor:
        """Centre and sharpen raw teacher logits of any leading shape; in float32 whatever they are."""
        return torch.softmax((logits_NK.float() - self.center) / temperature, dim=-1)

    @torch.no_grad()
    def update(self, logits_NK: Tensor, usable_N: Tensor, momentum: float) -> None:
        """Move towards the mean of the usable rows of all processes; without any, stay."""
        weight_N1 = usable_N.float()[:, None]
        sum_1K = (logits_NK.float() * weight_N1).sum(0, keepdim=True)
        sums_RK = gather_rows(torch.cat([sum_1K, weight_N1.sum(0, keepdim=True)], dim=1))
        total_K, count = sums_RK[:, :-1].sum(0, keepdim=True), sums_RK[:, -1].sum()
        moved_1K = self.center * momentum + total_K / count.clamp(min=1) * (1 - momentum)
        self.center.copy_(torch.where(count > 0, moved_1K, self.center))


def cross_entropy(probabilities_QBK: Tensor, logits_VBK: Tensor, temperature: float, usable_QVB: Tensor) -> Tensor:
    """Compare every teacher view with every student view of the same window; in float32.

    Args:
        usable_QVB: float, 0 for a pair that says nothing, such as one of nodata.

    Returns:
        terms_QV: -sum_k p log softmax(student / temperature), the mean over the usable windows; 0 without any.
    """
    log_VBK = torch.log_softmax(logits_VBK.float() / temperature, dim=-1)
    terms_QVB = -torch.einsum("qbk,vbk->qvb", probabilities_QBK, log_VBK)
    return mean_of_all((terms_QVB * usable_QVB).sum(2), usable_QVB.sum(2))


def paired_cross_entropy(
    probabilities_VBK: Tensor, logits_VBK: Tensor, temperature: float, usable_VB: Tensor
) -> Tensor:
    """Compare each teacher view with the student's view of the same rectangle alone, as PerA does; in float32.

    Returns:
        terms_V: the mean over the usable windows; 0 without any.
    """
    log_VBK = torch.log_softmax(logits_VBK.float() / temperature, dim=-1)
    terms_VB = -(probabilities_VBK * log_VBK).sum(2)
    return mean_of_all((terms_VB * usable_VB).sum(1), usable_VB.sum(1))


def usable_pairs(usable_QB: Tensor, usable_VB: Tensor) -> Tensor:
    """Tell which pairs of views have enough valid pixels on both sides, as float usable_QVB."""
    return (usable_QB[:, None] & usable_VB[None]).float()


def across_views(terms_QV: Tensor, usable_QVB: Tensor) -> Tensor:
    """Average the terms of pairs of different views; the teacher's views are the student's first ones."""
    other_QV = ~torch.eye(*terms_QV.shape, dtype=torch.bool, device=terms_QV.device)
    counted_QV = other_QV & (total(usable_QVB.sum(2)) > 0)
    return (terms_QV * counted_QV).sum() / counted_QV.sum().clamp(min=1)
