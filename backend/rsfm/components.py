"""Principal components of features, and the file that keeps them so that other maps take the same colours.

Shape letters: K components, D features, N cells.
"""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rsfm.errors import UserError

PERCENTILES = (2, 98)
SUFFIX = ".components.npz"
CHUNK = 8192
"""Cells that are centred at once, in float64."""


class Basis(NamedTuple):
    """Principal components: values_NK = (features_ND - mean_D) @ components_KD.T, and what they show.

    Attributes:
        components_KD: no rows where the features themselves are kept; K is D then, and the mean 0.
        ranges: the 2nd and 98th percentile of each component, for the colours.
        explained: share of the variance that the components keep.
        largest_K: the largest magnitude of each component in the sample.
        model: digest of the model's file.
    """

    mean_D: NDArray[np.float32]
    components_KD: NDArray[np.float32]
    ranges: list[tuple[float, float]]
    explained: float
    largest_K: NDArray[np.float64]
    model: str = ""

    @property
    def keeps_features(self) -> bool:
        return len(self.components_KD) == 0

    @property
    def outputs(self) -> int:
        """K."""
        return len(self.mean_D) if self.keeps_features else len(self.components_KD)

    def project(self, features_ND: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return values_NK."""
        if self.keeps_features:
            return features_ND
        return np.asarray((features_ND - self.mean_D) @ self.components_KD.T, np.float32)


def fit_components(sample_ND: NDArray[np.float32], components: int, model: str = "") -> Basis:
    """Fit principal components, of fixed sign: the largest loading is positive; 0 components keep all features."""
    width = sample_ND.shape[1]
    if components == 0:
        empty = Basis(np.zeros(width, np.float32), np.zeros((0, width), np.float32), [], 1.0, np.zeros(0), model)
        return _measured(empty, sample_ND)
    mean_D = np.asarray(sample_ND.mean(axis=0, dtype=np.float64), np.float64)
    values_D, vectors_DD = np.linalg.eigh(_covariance(sample_ND, mean_D))
    keep = min(components, width)
    components_KD = vectors_DD[:, ::-1].T[:keep]
    signs_K = np.sign(components_KD[np.arange(keep), np.abs(components_KD).argmax(axis=1)])
    components_KD = components_KD * signs_K[:, None]
    explained = float(values_D[::-1][:keep].sum() / max(values_D.sum(), 1e-12))
    basis = Basis(mean_D.astype(np.float32), components_KD.astype(np.float32), [], explained, np.zeros(0), model)
    return _measured(basis, sample_ND)


def save_basis(basis: Basis, path: Path) -> None:
    """Write the file of the components, by renaming a finished one; it needs no pickle."""
    partial = path.with_name(f"{path.stem}.partial.npz")
    np.savez(
        partial,
        mean=basis.mean_D,
        components=basis.components_KD,
        ranges=np.array(basis.ranges).reshape(-1, 2),
        percentiles=np.array(PERCENTILES),
        explained=basis.explained,
        largest=basis.largest_K,
        model=np.array(basis.model),
    )
    os.replace(partial, path)


def load_basis(path: Path) -> Basis:
    """Read the file of the components.

    Raises:
        KeyError, ValueError, OSError: it is none.
    """
    with np.load(path, allow_pickle=False) as kept:
        ranges = [(float(low), float(high)) for low, high in kept["ranges"]]
        largest_K, model = kept["largest"], str(kept["model"])
        return Basis(kept["mean"], kept["components"], ranges, float(kept["explained"]), largest_K, model)


def find_basis(layer: str, model: str, field: str) -> Basis:
    """Read the components of an earlier embedding.

    Args:
        layer: any layer of that run, or the file of the components.
        model: digest of the model that reads the raster now.

    Raises:
        UserError: there are none beside the layer, or they are of another model.
    """
    path = Path(layer)
    places = [path, path.with_suffix(SUFFIX), path.parent / f"embedding{SUFFIX}"]
    file = next((each for each in places if each.name.endswith(SUFFIX) and each.is_file()), None)
    try:
        basis = load_basis(file) if file else None
    except (KeyError, ValueError, OSError):
        basis = None
    if basis is None:
        raise UserError(
            f"Beside '{path.name}' lies no file of components ('embedding{SUFFIX}'). Choose a layer that 'Embed a "
            "Raster' made, where it made it, or leave the field empty.",
            field,
        )
    if basis.model != model:
        raise UserError(
            f"The components of '{path.name}' were fitted to another model. Choose that model under 'Model', or an "
            "embedding made with this one.",
            field,
        )
    return basis


def _covariance(sample_ND: NDArray[np.float32], mean_D: NDArray[np.float64]) -> NDArray[np.float64]:
    total_DD = np.zeros((len(mean_D), len(mean_D)))
    for first in range(0, len(sample_ND), CHUNK):
        centred_ND = sample_ND[first : first + CHUNK] - mean_D
        total_DD += centred_ND.T @ centred_ND
    return total_DD / max(len(sample_ND) - 1, 1)


def _measured(basis: Basis, sample_ND: NDArray[np.float32]) -> Basis:
    """Add the percentiles and the largest magnitudes."""
    values_NK = basis.project(sample_ND)
    low_K, high_K = np.percentile(values_NK, PERCENTILES, axis=0)
    ranges = [(float(low), float(high)) for low, high in zip(low_K, high_K, strict=True)]
    return basis._replace(ranges=ranges, largest_K=np.abs(values_NK).max(axis=0).astype(np.float64))
