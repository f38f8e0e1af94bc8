"""Classification by the nearest training features, weighted, as DINO evaluates without training a head.

Wu et al., 2018, arXiv:1805.01978; Caron et al., 2021, arXiv:2104.14294.

Shape letters: N training features, M features asked for, D width, J neighbours, K classes.
"""

import torch
from torch import Tensor
from torch.nn import functional

AT_ONCE = 1024
TEMPERATURE = 0.07


def neighbour_votes(
    train_ND: Tensor,
    labels_N: Tensor,
    asked_MD: Tensor,
    neighbours: int,
    classes: int,
    temperature: float = TEMPERATURE,
) -> Tensor:
    """Sum up exp(cosine / temperature) of the nearest training features by their class, votes_MK.

    Args:
        neighbours: at most as many as there are training features are taken.
    """
    cosine_MJ, nearest_MJ = find_nearest(train_ND, asked_MD, neighbours)
    return vote(cosine_MJ, labels_N[nearest_MJ], classes, temperature)


def find_nearest(train_ND: Tensor, asked_MD: Tensor, neighbours: int) -> tuple[Tensor, Tensor]:
    """Return the cosines of the nearest training features and their numbers, closest first.

    Args:
        neighbours: as in `neighbour_votes`.
    """
    train_ND, unit_MD = functional.normalize(train_ND, dim=1), functional.normalize(asked_MD, dim=1)
    count = min(neighbours, len(train_ND))
    parts = [(part_MD @ train_ND.T).topk(count, dim=1) for part_MD in torch.split(unit_MD, AT_ONCE)]
    return torch.cat([part.values for part in parts]), torch.cat([part.indices for part in parts])


def vote(cosine_MJ: Tensor, labels_MJ: Tensor, classes: int, temperature: float) -> Tensor:
    """Sum up exp(cosine / temperature) of neighbours by their class, votes_MK."""
    votes_MK = cosine_MJ.new_zeros(len(cosine_MJ), classes)
    return votes_MK.scatter_add(1, labels_MJ, (cosine_MJ / temperature).exp())


def ranked(votes_MK: Tensor) -> Tensor:
    """Return the classes by their votes, the most first; of equal ones the lowest number first."""
    return votes_MK.sort(dim=1, descending=True, stable=True).indices
