"""What the classes reflect, band by band and season by season.

Rounded from the shapes of typical Sentinel-2 surface reflectances; made for this scene, not measured.
Shape letters: C bands, K classes (0 is road).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rsfm.scene.classes import BARE, CLASSES, FOREST, INDUSTRIAL, NARROW, ORCHARD, RESIDENTIAL, ROAD, WATER, WIDE

BANDS = {"B2": 490, "B3": 560, "B4": 665, "B5": 705, "B6": 740, "B7": 783, "B8": 842, "B11": 1610, "B12": 2190}
"""Sentinel-2's name -> central wavelength in nm."""

Spectrum = NDArray[np.float32]

_REFLECTANCE = {  # x 10000, in the order of BANDS
    "leaves": (260, 500, 290, 850, 2400, 3000, 3200, 1450, 680),
    "autumn leaves": (350, 720, 780, 1250, 2100, 2450, 2600, 1750, 950),
    "twigs": (520, 680, 760, 1000, 1350, 1500, 1650, 2050, 1350),
    "grass": (480, 850, 600, 1250, 2250, 2600, 2750, 2350, 1350),
    "dry grass": (800, 1100, 1250, 1600, 2000, 2150, 2300, 2800, 1950),
    "crop": (330, 720, 390, 1100, 2900, 3600, 3850, 1750, 850),
    "stubble": (900, 1250, 1500, 1800, 2150, 2350, 2500, 3100, 2350),
    "soil": (1050, 1350, 1650, 1850, 2000, 2150, 2300, 3000, 2500),
    "dry soil": (1300, 1650, 2050, 2250, 2400, 2520, 2680, 3550, 3050),
    "sand": (1500, 1850, 2250, 2420, 2550, 2670, 2800, 3600, 3150),
    "roof": (1600, 1800, 2150, 2270, 2350, 2450, 2550, 3050, 2780),
    "yard": (700, 850, 860, 1080, 1600, 1800, 1900, 1800, 1350),
    "asphalt": (1000, 1100, 1180, 1240, 1300, 1350, 1400, 1580, 1450),
    "clear water": (420, 380, 230, 200, 160, 140, 120, 60, 40),
    "murky water": (620, 700, 480, 430, 280, 260, 220, 110, 80),
}


class Season(NamedTuple):
    """State of the vegetation, each from 0 to 1: leaves on trees, their autumn colour, growth of crops, of grass."""

    leaves: float
    autumn: float
    crop: float
    grass: float


SPRING, SUMMER, AUTUMN = Season(0.45, 0.0, 0.3, 0.9), Season(1.0, 0.0, 1.0, 0.6), Season(0.8, 0.7, 0.15, 0.7)


def end_members(season: Season) -> tuple[Spectrum, Spectrum]:
    """Return the two materials of each class, low_KC and high_KC: the fraction mixes the one with the other."""
    canopy = _blend("twigs", _blend("leaves", "autumn leaves", season.autumn), season.leaves)
    ground = _blend("dry grass", "grass", season.grass)
    crop = _blend("stubble", "crop", season.crop)
    yard = _blend("asphalt", "yard", 0.4 + 0.6 * season.grass)
    ends = {
        ROAD: (_spectrum("asphalt") * 0.9, _spectrum("asphalt") * 1.1),
        BARE: (_spectrum("dry soil"), _spectrum("sand")),
        FOREST: (canopy, ground),
        ORCHARD: (canopy, ground),
        INDUSTRIAL: (yard, _spectrum("roof")),
        RESIDENTIAL: (yard, _spectrum("roof")),
        NARROW: (_spectrum("soil"), crop),
        WIDE: (_spectrum("soil"), crop),
        WATER: (_spectrum("clear water"), _spectrum("murky water")),
    }
    order = range(len(CLASSES) + 1)
    return np.stack([ends[value][0] for value in order]), np.stack([ends[value][1] for value in order])


def _spectrum(material: str) -> Spectrum:
    return np.array(_REFLECTANCE[material], np.float32)


def _blend(first: str | Spectrum, second: str | Spectrum, share: float) -> Spectrum:
    """Mix two materials, `share` of the second."""
    one = _spectrum(first) if isinstance(first, str) else first
    two = _spectrum(second) if isinstance(second, str) else second
    return np.asarray(one + (two - one) * np.float32(share), np.float32)
