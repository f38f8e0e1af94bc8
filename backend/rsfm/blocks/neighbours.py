"""Classification by the nearest training features, weighted, as DINO evaluates without training a head.

Wu et al., 2018, arXiv:1805.01978; Caron et al., 2021, arXiv:2104.14294.

Shape letters: N training features, M features asked for, D width, J neighbours, K classes.
"""

import torch
from torch import Tensor
from torch.nn import functional

AT_ONCE = 1024


def neighbour_votes(
    train_ND: Tensor, labels_N: Tensor, asked_MD: Tensor, neighbours: int, classes: int, temperature: float = 0.07
) -> Tensor:
    """Sum up exp(cosine / temperature) of the nearest training features by their class, votes_MK.

    Args:
        neighbours: at most as many as there are training features are taken.
    """
    train_ND = functional.normalize(train_ND, dim=1)
    count = min(neighbours, len(train_ND))
    votes = []
    unit_MD = functional.normalize(asked_MD, dim=1)
    for start in range(0, len(unit_MD), AT_ONCE):
        part_MD = unit_MD[start : start + AT_ONCE]
        cosine_MJ, nearest_MJ = (part_MD @ train_ND.T).topk(count, dim=1)
        weight_MJ = (cosine_MJ / temperature).exp()
        empty_MK = torch.zeros(len(part_MD), classes, device=part_MD.device, dtype=weight_MJ.dtype)
        votes.append(empty_MK.scatter_add(1, labels_N[nearest_MJ], weight_MJ))
    return torch.cat(votes)
