"""Where things are: parcels, river, lakes, roads, and what was built between the two summers.

Shape letters: H rows, W columns, P parcels.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from scipy.spatial import cKDTree

from rsfm.scene.changes import build
from rsfm.scene.classes import BARE, CLASSES, FOREST, INDUSTRIAL, NARROW, ORCHARD, RESIDENTIAL, ROAD, WATER, WIDE
from rsfm.scene.noise import layered_noise, smooth_noise

LARGEST_SPACING = 72
SMALLEST_SPACING = 22
ZONES = ((INDUSTRIAL, RESIDENTIAL), (FOREST, ORCHARD), (BARE, NARROW, WIDE))
MAIN_ROADS = 3
LAKES = 3


class Layout(NamedTuple):
    """The plan of a scene.

    Attributes:
        parcel_HW: index of the parcel, int32.
        before_HW, after_HW: class in the first and in the second summer, uint8, 0 on roads.
        angle_P: direction of rows and streets, radians.
        gain_P: brightness of the parcel, about 1.
        spacing: distance of neighbour parcels in pixels.
    """

    parcel_HW: NDArray[np.int32]
    before_HW: NDArray[np.uint8]
    after_HW: NDArray[np.uint8]
    angle_P: NDArray[np.float32]
    gain_P: NDArray[np.float32]
    spacing: float

    @property
    def changed_HW(self) -> NDArray[np.bool_]:
        return np.not_equal(self.before_HW, self.after_HW)


def lay_out(size: int, seed: int) -> Layout:
    """Plan a square scene of `size` pixels a side."""
    random = np.random.default_rng([seed, 1])
    spacing = min(max(size / 14, SMALLEST_SPACING), LARGEST_SPACING)
    sites_P2 = _sites(random, size, spacing)
    parcel_HW = _parcels(random, size, spacing, sites_P2)
    class_P = _land_use(random, size, spacing, sites_P2)
    before_HW = class_P[parcel_HW]
    before_HW[_tracks(random, parcel_HW, class_P)] = ROAD
    before_HW[_lakes(random, size, spacing) | _river(random, size, spacing)] = WATER
    for _ in range(MAIN_ROADS):
        before_HW[_distance_to_curve(random, size) < 1.6] = ROAD
    angle_P = random.uniform(0, np.pi, len(sites_P2)).astype(np.float32)
    gain_P = np.clip(random.normal(1, 0.1, len(sites_P2)), 0.8, 1.2).astype(np.float32)
    after_HW = build(random, parcel_HW, before_HW, angle_P, spacing)
    return Layout(parcel_HW, before_HW, after_HW, angle_P, gain_P, spacing)


def _sites(random: np.random.Generator, size: int, spacing: float) -> NDArray[np.float64]:
    """Draw the centres of the parcels, a jittered lattice that reaches past the edges."""
    along = np.arange(-0.5, size / spacing + 1)
    lattice = np.stack(np.meshgrid(along, along, indexing="ij"), -1).reshape(-1, 2)
    jittered: NDArray[np.float64] = (lattice + random.uniform(-0.45, 0.45, lattice.shape)) * spacing
    return jittered


def _parcels(
    random: np.random.Generator, size: int, spacing: float, sites_P2: NDArray[np.float64]
) -> NDArray[np.int32]:
    """Give every pixel to the nearest site, through a lens that bends the borders."""
    pixels = np.moveaxis(np.mgrid[:size, :size].astype(np.float32), 0, -1)
    for axis in (0, 1):
        pixels[..., axis] += 0.10 * spacing * smooth_noise(random, size, spacing * 0.9)
    _, nearest = cKDTree(sites_P2).query(pixels.reshape(-1, 2))
    return np.asarray(nearest, np.int32).reshape(size, size)


def _land_use(
    random: np.random.Generator, size: int, spacing: float, sites_P2: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """Make towns, woods and open country out of neighbours, each class with its share of the parcels."""
    class_P = np.zeros(len(sites_P2), np.uint8)
    free = np.arange(len(sites_P2))
    at = np.clip(sites_P2.astype(int), 0, size - 1)
    inside = np.flatnonzero(((sites_P2 >= 0) & (sites_P2 < size)).all(1))
    for zone in ZONES:
        wish = smooth_noise(random, size, spacing * 3.5)[at[:, 0], at[:, 1]] + random.normal(0, 0.3, len(at))
        shares = np.array([CLASSES[value - 1].share for value in zone])
        wanted = round(shares.sum() * len(inside))
        last = zone == ZONES[-1]
        threshold = -np.inf if last else np.sort(wish[np.intersect1d(free, inside)])[-wanted]
        taken = free[wish[free] >= threshold]
        deck = np.repeat(zone, np.maximum(np.round(shares / shares.sum() * len(taken)).astype(int), 1))
        class_P[random.permutation(taken)] = np.resize(deck, len(taken))
        free = np.setdiff1d(free, taken)
    return class_P


def _tracks(random: np.random.Generator, parcel_HW: NDArray[np.int32], class_P: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Draw a lane along a third of the borders, and along most of them in towns."""
    track_HW = np.zeros(parcel_HW.shape, bool)
    luck_P = random.uniform(0, 1, len(class_P))
    town_P = np.isin(class_P, (INDUSTRIAL, RESIDENTIAL))
    for axis in (0, 1):
        first, second = (np.take(parcel_HW, range(start, parcel_HW.shape[axis] - 1 + start), axis) for start in (0, 1))
        chance = np.where(town_P[first] | town_P[second], 0.8, 0.33)
        drawn = (first != second) & ((luck_P[first] + luck_P[second]) % 1 < chance)
        track_HW[: drawn.shape[0], : drawn.shape[1]] |= drawn
    return track_HW


def _lakes(random: np.random.Generator, size: int, spacing: float) -> NDArray[np.bool_]:
    rows, columns = np.mgrid[:size, :size].astype(np.float32)
    shore = layered_noise(random, size, spacing * 0.6) * np.float32(0.16 * spacing)
    lake_HW = np.zeros((size, size), bool)
    for radius in np.linspace(0.9, 0.55, LAKES) * spacing:
        row, column = random.uniform(0.12, 0.88, 2) * size
        lake_HW |= np.hypot(rows - row, (columns - column) * random.uniform(0.7, 1.2)) + shore < radius
    return lake_HW


def _river(random: np.random.Generator, size: int, spacing: float) -> NDArray[np.bool_]:
    half_width = np.maximum(spacing * (0.095 + 0.02 * smooth_noise(random, size, spacing * 1.5)), 2.5)
    river_HW: NDArray[np.bool_] = _distance_to_curve(random, size) < half_width
    return river_HW


def _distance_to_curve(random: np.random.Generator, size: int) -> NDArray[np.float32]:
    """Draw a winding line from one side to the opposite one; return every pixel's distance to it."""
    along = np.linspace(0, size - 1, 4 * size)
    across = np.full_like(along, random.uniform(0.2, 0.8) * size) + random.uniform(-0.25, 0.25) * (along - size / 2)
    for wavelength, height in ((0.9, 0.07), (0.37, 0.03), (0.16, 0.008)):
        phase = random.uniform(0, 2 * np.pi)
        across += height * size * np.sin(2 * np.pi * along / (size * wavelength * random.uniform(0.8, 1.25)) + phase)
    inside = (across >= 0) & (across <= size - 1)
    line_HW = np.ones((size, size), bool)
    line_HW[np.rint(along[inside]).astype(int), np.rint(across[inside]).astype(int)] = False
    if random.uniform() < 0.5:
        line_HW = line_HW.T
    return np.asarray(distance_transform_edt(line_HW), np.float32)
