"""Chooses places to label next: uncertain ones, unlike each other and what is labelled, spread over the ground.

Shape letters: M candidates, N labelled pixels, D features, S spots.
"""

import numpy as np
from numpy.typing import NDArray

from rsfm.labelling.feature_cache import Indices

POOL = 0.1
"""Share of the candidates, the most uncertain ones, among which spots are chosen."""
LEAST_POOL = 20
"""Candidates for each spot, at least."""
SPREAD = 0.6
"""How far apart spots are at first, of the side of the square that each has to itself."""
NARROWER = 0.8
MOST_COMPARED = 2000
"""Labelled pixels that candidates are compared with."""


def choose_spots(
    uncertain_M: NDArray[np.float32],
    features_MD: NDArray[np.float32],
    place_M2: NDArray[np.float64],
    labelled_ND: NDArray[np.float32],
    count: int,
    area: float,
) -> Indices:
    """Choose candidates, those that teach most first.

    Args:
        place_M2: where they are, in any unit of length.
        area: of all the ground they were taken from, in that unit squared.

    Returns:
        chosen_S: their indices; fewer than asked for where there are no more.
    """
    pool = min(len(uncertain_M), max(int(len(uncertain_M) * POOL), count * LEAST_POOL))
    pool_M = np.argsort(-uncertain_M, kind="stable")[:pool]
    weight_M = uncertain_M[pool_M].astype(np.float64)
    mean_D, std_D = features_MD.mean(axis=0), np.maximum(features_MD.std(axis=0), 1e-6)
    standard_MD, place_M2 = (features_MD[pool_M] - mean_D) / std_D, place_M2[pool_M]
    novelty_M = _nearest(standard_MD, (_some(labelled_ND) - mean_D) / std_D)
    chosen: list[int] = []
    distance_M = np.full(pool, np.inf)
    apart = SPREAD * (area / count) ** 0.5
    while len(chosen) < min(count, pool):
        usual = float(np.median(novelty_M[np.isfinite(novelty_M)])) if np.isfinite(novelty_M).any() else 1.0
        score_M = weight_M * np.minimum(novelty_M / max(usual, 1e-9), 2.0)
        score_M[distance_M < apart] = -1
        if score_M.max() < 0:
            apart *= NARROWER
            if apart < 1e-9 * area**0.5:
                break
            continue
        best = int(score_M.argmax())
        chosen.append(best)
        novelty_M = np.minimum(novelty_M, _nearest(standard_MD, standard_MD[best : best + 1]))
        distance_M = np.minimum(distance_M, np.hypot(*(place_M2 - place_M2[best]).T))
        distance_M[best] = -1
    return np.asarray(pool_M[chosen], np.int64)


def margin(values_KN: NDArray[np.float32]) -> tuple[NDArray[np.float32], Indices, Indices]:
    """Return how uncertain pixels are, 1 less the lead of the likeliest class's probability, and the two classes."""
    probability_KN = np.exp(values_KN - values_KN.max(axis=0))
    probability_KN /= probability_KN.sum(axis=0)
    first_N = probability_KN.argmax(axis=0)
    number_N = np.arange(values_KN.shape[1])
    largest_N = probability_KN[first_N, number_N].copy()
    probability_KN[first_N, number_N] = -1
    second_N = probability_KN.argmax(axis=0)
    return 1 - (largest_N - probability_KN[second_N, number_N]), first_N, second_N


def _nearest(one_MD: NDArray[np.float32], other_ND: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return how far each of one is from the nearest of the other; infinite where there is none."""
    if not len(other_ND):
        return np.full(len(one_MD), np.inf, np.float32)
    squares_MN = (one_MD**2).sum(1)[:, None] + (other_ND**2).sum(1)[None] - 2 * one_MD @ other_ND.T
    return np.asarray(np.sqrt(np.maximum(squares_MN.min(axis=1), 0)), np.float32)


def _some(labelled_ND: NDArray[np.float32]) -> NDArray[np.float32]:
    return labelled_ND[:: max(1, -(-len(labelled_ND) // MOST_COMPARED))]
