"""Average precision of boxes at an overlap of one half, as COCO counts it: 101 points of recall, all sizes.

Lin et al., 2014, "Microsoft COCO", arXiv:1405.0312, and its pycocotools.

Shape letters: N found boxes, M true boxes.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rsfm.raster.boxes import Boxes, overlaps

LEAST_OVERLAP = 0.5
POINTS = 101


def average_precision(found: Sequence[Boxes], truth: Sequence[Boxes], value: int) -> float | None:
    """Return the average precision of a class over several rasters; None where there is no true box.

    From the highest score down, a found box takes the true box that it overlaps most of those that are left.

    Args:
        found, truth: the boxes of each raster.
    """
    parts = [
        _match(_best_first(ours_N[ours_N["value"] == value]), theirs_M[theirs_M["value"] == value])
        for ours_N, theirs_M in zip(found, truth, strict=True)
    ]
    true = sum(int((theirs_M["value"] == value).sum()) for theirs_M in truth)
    if true == 0:
        return None
    score_N = np.concatenate([score_N for score_N, _ in parts])
    right_N = np.concatenate([right_N for _, right_N in parts])[np.argsort(-score_N, kind="mergesort")]
    if not len(right_N):
        return 0.0
    precision_N = right_N.cumsum() / np.arange(1, len(right_N) + 1)
    best_N = np.maximum.accumulate(precision_N[::-1])[::-1]
    at_P = np.searchsorted(right_N.cumsum() / true, np.linspace(0, 1, POINTS))
    return float(np.append(best_N, 0.0)[at_P].mean())


def _best_first(boxes_N: Boxes) -> Boxes:
    return np.asarray(boxes_N[np.argsort(-boxes_N["score"], kind="mergesort")])


def _match(found_N: Boxes, truth_M: Boxes) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the scores, and which found boxes take a true one."""
    right_N, left_M = np.zeros(len(found_N), bool), np.ones(len(truth_M), bool)
    for index in range(len(found_N)):
        overlap_M = overlaps(np.repeat(found_N[index : index + 1], len(truth_M)), truth_M)
        overlap_M = np.where(left_M, overlap_M, -1)
        if len(truth_M) and overlap_M.max() >= LEAST_OVERLAP:
            right_N[index], left_M[overlap_M.argmax()] = True, False
    return found_N["score"].astype(np.float64), right_N
