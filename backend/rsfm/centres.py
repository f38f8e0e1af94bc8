"""Centres of groups of features, found by mini-batch k-means, and the file that keeps them.

Sculley, 2010, "Web-scale k-means clustering".

Shape letters: K groups, D features, H rows, W columns, N cells.
"""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import MiniBatchKMeans
from threadpoolctl import threadpool_limits

from rsfm.errors import UserError

SUFFIX = ".centres.npz"
BATCH, STARTS, ROUNDS = 4096, 5, 200


class Centres(NamedTuple):
    """Where groups lie among the features; a cell is of the group whose centre is nearest.

    The nearest centre is the one of the largest score, a linear function of the features: so scores, of which there are
    few, are blended and interpolated in place of features.

    Attributes:
        mean_D: of the sample; it is taken off first, so that scores are small numbers.
        centres_KD: without the mean; the group of most cells first.
        model: digest of the model's file; empty where bands are grouped.
    """

    mean_D: NDArray[np.float32]
    centres_KD: NDArray[np.float32]
    model: str = ""

    def nearest(self, products_KHW: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return the group, from 1, of each cell.

        Args:
            products_KHW: centres_KD @ (features - mean).
        """
        half_K = np.square(self.centres_KD).sum(1) / 2
        best_HW = products_KHW[0] - half_K[0]
        group_HW = np.ones(best_HW.shape, np.uint8)
        for index in range(1, len(half_K)):
            score_HW = products_KHW[index] - half_K[index]
            group_HW[score_HW > best_HW] = index + 1
            np.maximum(best_HW, score_HW, out=best_HW)
        return group_HW


def fit_centres(sample_ND: NDArray[np.float32], count: int, seed: int, model: str = "") -> Centres:
    """Find centres, always the same for the same sample.

    Raises:
        UserError: the sample is smaller than the number of groups.
    """
    if len(sample_ND) < count:
        raise UserError(
            f"Only {len(sample_ND)} valid cells were found for {count} groups. Ask for fewer under 'Clusters', or for "
            "one value for each pixel.",
            "clusters",
        )
    mean_D = sample_ND.mean(axis=0, dtype=np.float64).astype(np.float32)
    centred_ND = sample_ND - mean_D
    learner = MiniBatchKMeans(count, batch_size=BATCH, n_init=STARTS, max_iter=ROUNDS, random_state=seed)
    with threadpool_limits(1):  # sums of several threads differ in their last digits
        groups_N = learner.fit_predict(centred_ND)
    order_K = np.argsort(-np.bincount(groups_N, minlength=count), kind="stable")
    return Centres(mean_D, learner.cluster_centers_[order_K].astype(np.float32), model)


def save_centres(centres: Centres, path: Path) -> None:
    """Write the file of the centres, by renaming a finished one; it needs no pickle."""
    partial = path.with_name(f"{path.stem}.partial.npz")
    np.savez(partial, mean=centres.mean_D, centres=centres.centres_KD, model=np.array(centres.model))
    os.replace(partial, path)


def load_centres(path: Path) -> Centres:
    """Read the file of the centres.

    Raises:
        KeyError, ValueError, OSError: it is none.
    """
    with np.load(path, allow_pickle=False) as kept:
        return Centres(kept["mean"], kept["centres"], str(kept["model"]))


def find_centres(layer: str, width: int, model: str, field: str) -> Centres:
    """Read the centres of an earlier map of groups.

    Args:
        layer: the map, or the file of the centres.
        width: number of features that there are now.
        model: digest of the model that reads the raster now.

    Raises:
        UserError: there are none beside the layer, or they are of other features.
    """
    path = Path(layer)
    places = [path, path.with_suffix(SUFFIX)]
    file = next((each for each in places if each.name.endswith(SUFFIX) and each.is_file()), None)
    try:
        centres = load_centres(file) if file else None
    except (KeyError, ValueError, OSError):
        centres = None
    if centres is None:
        raise UserError(
            f"Beside '{path.name}' lies no file of centres ('clusters{SUFFIX}'). Choose a map of groups where it was "
            "made, or leave the field empty.",
            field,
        )
    if centres.model != model or len(centres.mean_D) != width:
        raise UserError(
            f"The groups of '{path.name}' were found among other features. Choose the model they were found with under "
            "'Model', or an embedding of the same components.",
            field,
        )
    return centres
