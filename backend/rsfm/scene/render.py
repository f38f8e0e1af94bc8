"""What the satellite sees of a layout on a date.

Shape letters: C bands, H rows, W columns, K classes (0 is road), P parcels.
"""

from datetime import date
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import shift

from rsfm.scene.classes import NARROW, WIDE
from rsfm.scene.layout import Layout
from rsfm.scene.noise import Map, layered_noise
from rsfm.scene.spectra import AUTUMN, BANDS, SPRING, SUMMER, Season, end_members

NOISE = 110
"""Deviation of the sensor's noise, reflectance x 10000."""


class Acquisition(NamedTuple):
    """A date, and what was special about it.

    Attributes:
        summer: 0 before the works, 1 after them.
        drift: how far fields and bands have changed in brightness since the first summer, as a share (deviation).
        growth: how far the cover of the crops differs from the first summer's, as a share (deviation over fields).
        cloudy: share of the scene under clouds.
        collar: share of the width that the swath misses, on the left.
    """

    date: date
    season: Season
    summer: int
    drift: float
    growth: float
    cloudy: float = 0
    collar: float = 0


BEFORE = Acquisition(date(2023, 7, 15), SUMMER, 0, 0, 0)
AFTER = Acquisition(date(2024, 7, 12), SUMMER, 1, 0.04, 0.15)
ACQUISITIONS = (
    Acquisition(date(2023, 4, 20), SPRING, 0, 0.05, 0.1, collar=0.08),
    BEFORE,
    Acquisition(date(2023, 10, 5), AUTUMN, 0, 0.05, 0.1, cloudy=0.16),
    AFTER,
)


def compose(layout: Layout, fraction_2HW: Map, taken: Acquisition) -> Map:
    """Mix the materials, reflectance_CHW x 10000, before sun, sensor and weather."""
    class_HW = (layout.before_HW, layout.after_HW)[taken.summer]
    low_KC, high_KC = end_members(taken.season)
    span_KC = high_KC - low_KC
    fraction_HW = fraction_2HW[taken.summer]
    bands = [low_KC[:, band][class_HW] + span_KC[:, band][class_HW] * fraction_HW for band in range(len(BANDS))]
    return np.stack(bands)


def photograph(layout: Layout, fraction_2HW: Map, taken: Acquisition, seed: int) -> NDArray[np.uint16]:
    """Return the pixels of a date, pixels_CHW: reflectance x 10000, 0 where there is none."""
    size = len(layout.parcel_HW)
    random = np.random.default_rng([seed, 3, taken.date.toordinal()])
    grown_2HW = fraction_2HW + _growth(random, layout, taken)
    pixels_CHW = compose(layout, np.clip(grown_2HW, 0, 1), taken)
    pixels_CHW *= _brightness(random, layout, taken) * _sun(np.random.default_rng([seed, 4]), size)
    pixels_CHW *= random.normal(1, taken.drift, (len(BANDS), 1, 1)).astype(np.float32)
    if taken.cloudy:
        pixels_CHW = _cover(random, pixels_CHW, taken.cloudy)
    for band in pixels_CHW:
        band += NOISE * random.standard_normal(band.shape, np.float32)
    counts_CHW = np.clip(np.rint(pixels_CHW), 1, 20000).astype(np.uint16)
    if taken.collar:
        rows, columns = np.indices((size, size))
        counts_CHW[:, columns < size * taken.collar * (1.5 - rows / size)] = 0
    return counts_CHW


def _growth(random: np.random.Generator, layout: Layout, taken: Acquisition) -> Map:
    """How much better or worse the crops of a field stand than in the first summer, as a share of the cover."""
    class_HW = (layout.before_HW, layout.after_HW)[taken.summer]
    growth_P = random.normal(0, taken.growth, len(layout.gain_P)).astype(np.float32)
    return np.where(np.isin(class_HW, (NARROW, WIDE)), growth_P[layout.parcel_HW], np.float32(0))


def _brightness(random: np.random.Generator, layout: Layout, taken: Acquisition) -> Map:
    gain_P = layout.gain_P * (1 + random.normal(0, taken.drift, len(layout.gain_P))).astype(np.float32)
    return gain_P[layout.parcel_HW]


def _sun(random: np.random.Generator, size: int) -> Map:
    """A ramp from 0.8 to 1.2 over the scene, as relief and view angle make it; the same on all dates."""
    angle = random.uniform(0, 2 * np.pi)
    rows, columns = np.mgrid[:size, :size].astype(np.float32)
    ramp = columns * np.float32(np.cos(angle)) + rows * np.float32(np.sin(angle))
    return np.asarray(0.8 + 0.4 * (ramp - ramp.min()) / (ramp.max() - ramp.min()), np.float32)


def _cover(random: np.random.Generator, pixels_CHW: Map, cloudy: float) -> Map:
    """Put clouds over the scene and their shadows north-west of them."""
    size = pixels_CHW.shape[-1]
    field = layered_noise(random, size, size / 5, layers=6)
    opacity = np.clip((field - np.quantile(field, 1 - cloudy)) * 2.5, 0, 1)
    shadow = np.clip(shift(opacity, (-0.035 * size, -0.025 * size), order=1), 0, 1)
    top_C11 = np.linspace(7200, 5200, len(pixels_CHW), dtype=np.float32)[:, None, None]
    shaded_CHW = pixels_CHW * (1 - 0.6 * shadow)
    return np.asarray(shaded_CHW * (1 - opacity) + top_C11 * opacity * (1 + 0.06 * field), np.float32)
