"""Deep change vector analysis, from stored feature maps to the magnitude and to the author's maps of it.

Shape letters: D channels, H rows, W columns, S side of the image, N its pixels, K channels kept.
"""

from collections.abc import Iterator

import numpy as np
from scipy import ndimage
from skimage.transform import resize

from rsfm.differences.dcva import SHARES, Vectors, fit_vectors, standardise, strongest
from rsfm.golden import Case, Check, Golden, compare
from rsfm.raster.objects import ObjectFinder
from rsfm.raster.threshold import OTSU_FACTOR, otsu

LATER = {2: SHARES[0], 5: SHARES[1], 8: SHARES[2]}
"""Share of the channels kept of each of the network's layers."""
BINS = 256
SIGMAS = (101, 151, 201)
CLOSING = 3
"""Radius of the disk, in pixels."""
DIFFERENT = 0.002


class Dcva(Golden):
    name = "dcva"

    def checks(self, case: Case) -> Iterator[Check]:
        layers, side = case.config["layers"], int(case.config["size"])
        kept: list[list[np.ndarray]] = [[], []]
        for layer in layers:
            maps = [_image(case.array(f"layer{layer}.{date}"), side) for date in ("pre", "post")]
            chosen_K = strongest(_quarters(maps[1] - maps[0]), LATER.get(layer, SHARES[-1]))
            yield from case.check(f"layer{layer}.selected", chosen_K)
            case.array(f"layer{layer}.selected")
            for date, map_DSS in zip(kept, maps, strict=True):
                date.append(map_DSS[chosen_K].reshape(len(chosen_K), -1))
        before_KN, after_KN = (np.concatenate(date) for date in kept)
        vectors = fit_vectors(before_KN, after_KN)
        yield from _aggregates(case, vectors, before_KN, after_KN, side)
        magnitude_SS = vectors.magnitude(before_KN, after_KN).reshape(side, side)
        low, high = magnitude_SS.min(), magnitude_SS.max()
        norm_SS = (magnitude_SS - low) / (high - low)
        yield _used(case, "change_magnitude_norm", norm_SS, 1e-4)
        yield from _maps(case, norm_SS)
        yield from _simple(case, f"layer{layers[-1]}")


def _aggregates(
    case: Case, vectors: Vectors, before_KN: np.ndarray, after_KN: np.ndarray, side: int
) -> Iterator[Check]:
    standard = (
        ("agg_pre", standardise(before_KN, vectors.mean_before_K, vectors.factor_before_K)),
        ("agg_post", standardise(after_KN, vectors.mean_after_K, vectors.factor_after_K)),
    )
    for name, pixels_KN in standard:
        yield _used(case, name, pixels_KN.T.reshape(side, side, -1), 1e-4)


def _maps(case: Case, norm_SS: np.ndarray) -> Iterator[Check]:
    threshold, smallest = otsu(norm_SS, BINS), int(case.config["object_min_size"])
    factor = float(case.config.get("scaled_otsu_factor", OTSU_FACTOR))
    yield compare("otsu_threshold", threshold, case.config["otsu_threshold"], 1e-4, 1e-3)
    adaptive_SS = np.zeros(norm_SS.shape, bool)
    for sigma in SIGMAS:
        adaptive_SS |= norm_SS > 2 * ndimage.gaussian_filter(norm_SS, sigma, mode="nearest", truncate=4.0)
    found = (
        ("cdmap_otsu", norm_SS > threshold),
        ("cdmap_scaledOtsu", norm_SS > factor * threshold),
        ("cdmap_adaptive", adaptive_SS),
    )
    for name, changed_SS in found:
        truth_SS = case.array(name) > 0
        yield Check(name, float((_cleaned(changed_SS, smallest) != truth_SS).mean()), DIFFERENT)


def _cleaned(changed_SS: np.ndarray, smallest: int) -> np.ndarray:
    """Leave out objects of fewer pixels than `smallest`, and close gaps with a disk."""
    finder = ObjectFinder()
    finder.add(changed_SS, np.ones(changed_SS.shape))
    objects = finder.finish()
    large_SS = objects.keep(objects.pixels_N >= smallest).label(0, changed_SS) > 0
    rows, columns = np.ogrid[-CLOSING : CLOSING + 1, -CLOSING : CLOSING + 1]
    disk = rows**2 + columns**2 <= CLOSING**2
    return np.asarray(ndimage.binary_erosion(ndimage.binary_dilation(large_SS, disk), disk, border_value=1))


def _simple(case: Case, layer: str) -> Iterator[Check]:
    """Compare the plain distances of any encoder's features on its own grid."""
    before_DHW, after_DHW = (case.array(f"{layer}.{date}").astype(np.float32) for date in ("pre", "post"))
    unit = [features / np.maximum(np.sqrt(np.square(features).sum(0)), 1e-12) for features in (before_DHW, after_DHW)]
    found = {
        "cosine_distance": 1 - (unit[0] * unit[1]).sum(0),
        "l2_of_normalised": np.sqrt(np.square(unit[0] - unit[1]).sum(0)),
        "l2": np.sqrt(np.square(before_DHW - after_DHW).sum(0)),
    }
    for name, distance_HW in found.items():
        if f"simple.{name}" in case:
            yield _used(case, f"simple.{name}", distance_HW, 1e-5)
        if f"simple.otsu.{name}" in case.config:
            yield compare(f"simple.otsu.{name}", otsu(distance_HW, BINS), case.config[f"simple.otsu.{name}"], 0, 1e-3)


def _image(features_DHW: np.ndarray, side: int) -> np.ndarray:
    clipped_HWD = np.clip(features_DHW.astype(np.float32), -1, 1).transpose(1, 2, 0)
    resized_SSD = resize(clipped_HWD, (side, side))  # type: ignore[no-untyped-call]
    return np.asarray(resized_SSD.transpose(2, 0, 1))


def _quarters(difference_DSS: np.ndarray) -> list[np.ndarray]:
    side = difference_DSS.shape[1]
    halves = slice(0, side // 2), slice(side // 2, None)
    return [difference_DSS[:, rows, columns].reshape(len(difference_DSS), -1) for rows in halves for columns in halves]


def _used(case: Case, name: str, ours: np.ndarray, tolerance: float) -> Check:
    return compare(name, ours, case.array(name), tolerance, 0)
