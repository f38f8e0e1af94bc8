"""Patterns: how the two materials of a class are mixed, pixel by pixel.

The mixing fractions of a class are ranked over all of its pixels and given one fixed distribution, so that the two
classes of a pair have the same values, in other places.

Shape letters: H rows, W columns, K classes (0 is road), P parcels.
"""

import numpy as np
from scipy.ndimage import gaussian_filter

from rsfm.scene.classes import CLASSES, FOREST, INDUSTRIAL, NARROW, ORCHARD, RESIDENTIAL, WIDE
from rsfm.scene.layout import Layout
from rsfm.scene.noise import Map, layered_noise, smooth_noise

PERIODS = {NARROW: (4.0, 0.0), WIDE: (8.0, 0.0), ORCHARD: (5.0, 5.0), RESIDENTIAL: (6.0, 6.5), INDUSTRIAL: (17.0, 13.0)}
"""Pixels from row to row, and along the row; 0 where the row goes on."""
ROUGHNESS = {NARROW: 0.5, WIDE: 0.5, ORCHARD: 0.45, RESIDENTIAL: 0.5, INDUSTRIAL: 0.5}
"""Deviation of the disorder, beside waves of height 1."""


def mix(layout: Layout, seed: int) -> Map:
    """Draw the share of the brighter material, from 0 to 1, fraction_2HW: of the first and of the second summer."""
    random = np.random.default_rng([seed, 2])
    fraction_2HW = np.empty((2, *layout.parcel_HW.shape), np.float32)
    summers = (layout.before_HW, layout.after_HW)
    for value in range(len(CLASSES) + 1):
        pattern_HW = _pattern(random, layout, value)
        either = (summers[0] == value) | (summers[1] == value)
        equal_HW = np.zeros_like(pattern_HW)
        equal_HW[either] = equalise(pattern_HW[either])
        for summer, class_HW in enumerate(summers):
            fraction_2HW[summer][class_HW == value] = equal_HW[class_HW == value]
    return fraction_2HW


def equalise(values_N: Map) -> Map:
    """Replace values by their ranks, spread from 0 to 1 with more weight near both ends (arcsine distribution)."""
    rank_N = np.empty(len(values_N), np.float64)
    rank_N[np.argsort(values_N, kind="stable")] = (np.arange(len(values_N)) + 0.5) / max(len(values_N), 1)
    return (0.5 - 0.5 * np.cos(np.pi * rank_N)).astype(np.float32)


def _pattern(random: np.random.Generator, layout: Layout, value: int) -> Map:
    size = len(layout.parcel_HW)
    if value == FOREST:
        crowns = gaussian_filter(random.standard_normal((size, size)).astype(np.float32), 1.15)
        return np.asarray(crowns / crowns.std() + 0.25 * smooth_noise(random, size, 30), np.float32)
    if value not in PERIODS:
        return layered_noise(random, size, 40)
    waves = _waves(random, layout, *PERIODS[value])
    disorder = gaussian_filter(random.standard_normal((size, size)).astype(np.float32), 0.7)
    return np.asarray(waves + ROUGHNESS[value] * disorder / disorder.std(), np.float32)


def _waves(random: np.random.Generator, layout: Layout, across: float, along: float) -> Map:
    """Rows, or a lattice, in each parcel's own direction, phase and (within 8 %) period; slightly bent."""
    size, parcels = len(layout.parcel_HW), len(layout.angle_P)
    rows, columns = np.mgrid[:size, :size].astype(np.float32)
    rows += 0.8 * smooth_noise(random, size, 40)
    columns += 0.8 * smooth_noise(random, size, 40)
    stretch_P = random.uniform(0.92, 1.08, parcels).astype(np.float32)
    phase_P = random.uniform(0, 2 * np.pi, (2, parcels)).astype(np.float32)
    angle_HW = layout.angle_P[layout.parcel_HW]
    sine, cosine = np.sin(angle_HW), np.cos(angle_HW)
    turn = (2 * np.pi / stretch_P)[layout.parcel_HW]
    first = np.cos((columns * cosine + rows * sine) * turn / across + phase_P[0][layout.parcel_HW])
    if not along:
        return np.asarray(first, np.float32)
    second = np.cos((rows * cosine - columns * sine) * turn / along + phase_P[1][layout.parcel_HW])
    return np.asarray(np.minimum(first, second), np.float32)
