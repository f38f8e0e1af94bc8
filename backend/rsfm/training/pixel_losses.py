"""What counts as an error at labelled pixels. All others have been left out before.

Shape letters: N labelled pixels, K classes.
"""

import torch
from torch import Tensor
from torch.nn import functional

from rsfm.training.learning_config import LearningConfig


def pixel_losses(logits_NK: Tensor, class_N: Tensor, config: LearningConfig) -> Tensor:
    """Return losses_N: cross-entropy, or focal loss (Lin et al., 2017, arXiv:1708.02002, equation 4)."""
    losses_N = functional.cross_entropy(logits_NK, class_N, reduction="none")
    if config.loss == "focal":
        losses_N = losses_N * (1 - torch.exp(-losses_N)).clamp(min=1e-6) ** config.focus
    return losses_N


def dice_loss(logits_NK: Tensor, class_N: Tensor) -> Tensor:
    """Return one minus the Dice coefficient of the softmax, its mean over the classes that are there."""
    share_NK = logits_NK.softmax(dim=1)
    truth_NK = functional.one_hot(class_N, logits_NK.shape[1]).to(share_NK)
    both_K = (share_NK * truth_NK).sum(0)
    sum_K = share_NK.sum(0) + truth_NK.sum(0)
    there_K = truth_NK.sum(0) > 0
    return 1 - (2 * both_K / sum_K.clamp(min=1e-7))[there_K].mean()
