"""Smooth random surfaces, the raw material of coasts, clouds and zones."""

from math import ceil

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import RectBivariateSpline

Map = NDArray[np.float32]
"""Values per pixel, HW."""


def smooth_noise(random: np.random.Generator, size: int, scale: float) -> Map:
    """Draw a surface of mean 0 and deviation 1 whose hills are about `scale` pixels apart.

    Random heights on a coarse lattice, joined by cubic splines.
    """
    lattice = ceil(size / scale) + 4
    heights = random.standard_normal((lattice, lattice))
    start = random.uniform(0, 1, 2)
    at = np.arange(size) / scale + 1
    steps = np.arange(lattice)
    surface = RectBivariateSpline(steps, steps, heights)(at + start[0], at + start[1])
    return np.asarray((surface - surface.mean()) / max(float(surface.std()), 1e-9), np.float32)


def layered_noise(random: np.random.Generator, size: int, scale: float, layers: int = 4) -> Map:
    """Sum surfaces of ever finer scale and lower height, as clouds and coasts have them; deviation 1."""
    total = np.zeros((size, size), np.float32)
    for layer in range(layers):
        if scale / 2**layer >= 1:
            total += smooth_noise(random, size, scale / 2**layer) * np.float32(0.55**layer)
    return np.asarray(total / max(float(total.std()), 1e-9), np.float32)
