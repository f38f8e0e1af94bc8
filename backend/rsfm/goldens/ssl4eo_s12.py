"""Scaling and light of many bands against zhu-xlab/SSL4EO-S12, SatMAE and SeCo; clusters of places; codes of moments.

Values of 8 bits are ours times 255, truncated as the authors do. What they let wrap around is compared after wrapping
ours: the methods themselves clip.

Shape letters: B batch, C bands, H rows, W columns, N places, K clusters, D 2 or 3 coordinates.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from rsfm import published_scaling
from rsfm.blocks import colour
from rsfm.blocks.dates import time_code
from rsfm.blocks.normalisation import Normalisation
from rsfm.blocks.places import lloyd, unit_vectors
from rsfm.blocks.resampling import matrix_axis, mirrored_blur_weights, opencv_reach, resample, resize_axis
from rsfm.golden import Case, Check, Golden
from rsfm.published_scaling import S1, S2_L1C, S2_RGB

TABLES = {"s1": "S1", "s2c": "S2C", "s2a": "S2A", "fmow_sentinel": "FMOW"}
SCALED: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
    ("s1_uint8", "s1_raw", "ssl4eo_s1", S1),
    ("s2c_uint8_stats", "s2c_raw", "ssl4eo_s2_stats", S2_L1C),
    ("s2c_uint8_10k_clipped", "s2c_raw", "ssl4eo_s2", S2_L1C),
    ("satmae_sentinel_norm", "s2c_raw", "satmae_sentinel", S2_L1C),
    ("seco_norm", "seco_raw", "seco", S2_RGB),
)
DIFFERENT = 0.005
"""Share of 8-bit values that may lie on the other side of a truncation."""
ROUNDING = 1e-4
"""Ours are float32, of which the end of a range may be 254.99998: this is added before they are truncated."""


class Ssl4eoS12(Golden):
    name = "ssl4eo_s12"

    def checks(self, case: Case) -> Iterator[Check]:
        for word, table in TABLES.items():
            for theirs, ours in (("mean", "MEAN"), ("std", "STD")):
                yield from case.check(f"{word}_{theirs}", getattr(published_scaling, f"{table}_{ours}"), rtol=1e-7)
        yield from check_scalings(case)
        if "aug_factors" in case:
            yield from check_light(case)
        yield from check_resize(case)
        if "geo_points_f64" in case:
            yield from check_places(case)
        if "ts_text" in case:
            moments = [datetime.fromisoformat(str(text)) for text in case.array("ts_text")]
            yield from case.check("ts_code", [time_code(moment) for moment in moments])


def check_scalings(case: Case) -> Iterator[Check]:
    """Compare the scalings of published models."""
    for name, source, scaling, bands in SCALED:
        if name in case:
            scaled = 255 * scale(case.array(source), scaling, bands)
            yield from check_bytes(case, name, scaled.clip(0, 255))
    if "s2c_raw" in case:
        scaled = scale(case.array("s2c_raw"), "torchgeo_s2", S2_L1C)
        yield from case.check("s2c_float_10k", scaled, atol=1e-5)
        yield from check_bytes(case, "s2c_uint8_10k_official", wrap(255 * scaled))


def scale(raw: Any, scaling: str, bands: Sequence[str]) -> Any:
    """Scale an array whose bands are first, or last where they are not first, and keep its order."""
    last = raw.shape[0] != len(bands)
    pixels_BCHW = torch.from_numpy(np.moveaxis(raw, -1, 0) if last else raw)[None]
    statistics = published_scaling.statistics(scaling, bands)
    if statistics is None:
        raise LookupError(f"'{scaling}' does not know all of {bands}")
    valid_BHW = torch.ones_like(pixels_BCHW[:, 0], dtype=torch.bool)
    scaled_CHW = Normalisation.from_statistics(statistics)(pixels_BCHW, valid_BHW)[0].numpy()
    return np.moveaxis(scaled_CHW, 0, -1) if last else scaled_CHW


def check_light(case: Case) -> Iterator[Check]:
    """Compare brightness, contrast, gray and blur of floats and of 8-bit values."""
    brightness, contrast, sigma = (float(value) for value in case.array("aug_factors"))
    sources = {
        "float": scale(case.array("s2c_raw"), "torchgeo_s2", S2_L1C),
        "uint8": np.moveaxis(case.array("aug_input_uint8"), -1, 0).astype(np.float32),
    }
    for kind, given_CHW in sources.items():
        floating, given_BCHW = kind == "float", torch.from_numpy(given_CHW)[None]
        changed = {
            "brightness": colour.change_brightness_(given_BCHW.clone(), torch.tensor([brightness])),
            "contrast": colour.change_contrast_(
                given_BCHW.clone(), torch.ones_like(given_BCHW[:, 0], dtype=torch.bool), torch.tensor([contrast])
            ),
            "gray": given_BCHW.mean(1, keepdim=True).expand_as(given_BCHW),
            "blur": blur(given_BCHW, sigma, opencv_reach(sigma, eight_bit=not floating)),
        }
        for name, changed_BCHW in changed.items():
            values_HWC = np.moveaxis(changed_BCHW[0].numpy(), 0, -1)
            if floating:
                yield from case.check(f"{name}_float", values_HWC, atol=1e-4 if name == "blur" else 1e-5)
            elif name == "blur":
                yield from case.check("blur_uint8", np.round(values_HWC), atol=2)
            else:
                yield from check_bytes(case, f"{name}_uint8", wrap(values_HWC))
                yield from check_bytes(case, f"{name}_uint8_clipped", values_HWC.clip(0, 255))


def blur(pixels_BCHW: Tensor, sigma: float, reach: int) -> Tensor:
    """Blur as OpenCV does."""
    rows_HH, columns_WW = (mirrored_blur_weights(sigma, cells, reach) for cells in pixels_BCHW.shape[2:])
    return resample(pixels_BCHW, matrix_axis(rows_HH[None]), matrix_axis(columns_WW[None]))


def check_resize(case: Case) -> Iterator[Check]:
    """Compare the resizing of a coarse band to the grid of the finest."""
    if "resize_out" in case:
        pixels_BCHW = torch.from_numpy(case.array("resize_in").astype(np.float32))[None, None]
        target = case.array("resize_out").shape
        rows, columns = (
            resize_axis(torch.zeros(1), torch.tensor([source]), source, cells, "bilinear")
            for source, cells in zip(pixels_BCHW.shape[2:], target, strict=True)
        )
        yield from case.check("resize_out", resample(pixels_BCHW, rows, columns)[0, 0].round(), atol=1)


def check_places(case: Case) -> Iterator[Check]:
    """Compare clusters in the plane of degrees and on the sphere, up to the order of the labels."""
    places_N2, first_K2 = case.tensor("geo_points_f64"), case.tensor("geo_init_f64")
    for name, spherical in (("degree", False), ("sphere", True)):
        points_ND, first_KD = (unit_vectors(part) if spherical else part for part in (places_N2, first_K2))
        found = lloyd(points_ND, first_KD, spherical)
        if f"geo_{name}_assign" in case:
            theirs_N = case.tensor(f"geo_{name}_assign").long()
            labels_N, order_K = relabel(found.labels_N, theirs_N)
            yield from case.check(f"geo_{name}_assign", labels_N)
            yield from case.check(f"geo_{name}_centres_f64", found.centres_KD[order_K], atol=1e-5)


def relabel(labels_N: Tensor, theirs_N: Tensor) -> tuple[Tensor, Tensor]:
    """Give our labels the numbers that they most often have in theirs; and the order of our centres by theirs."""
    overlap_KK = functional.one_hot(theirs_N).T @ functional.one_hot(labels_N)
    return overlap_KK.argmax(0)[labels_N], overlap_KK.argmax(1)


def check_bytes(case: Case, name: str, ours: Any) -> Iterator[Check]:
    """Compare 8-bit values: none differs by more than 1, and few differ at all."""
    if name in case:
        theirs = case.array(name).astype(np.int64)
        apart = np.abs(np.trunc(ours + ROUNDING).astype(np.int64) - theirs)
        apart = np.minimum(apart, 256 - apart)
        yield Check(name, float(apart.max(initial=0)), 1)
        yield Check(f"{name}, share that differs", float(np.mean(apart > 0)), DIFFERENT)


def wrap(values: Any) -> Any:
    """Cast to 8 bits as the authors do, where 256 becomes 0."""
    return np.mod(np.trunc(values + ROUNDING), 256)
