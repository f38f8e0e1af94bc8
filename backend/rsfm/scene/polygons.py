"""Labels as an analyst draws them: a few clicks around a place that is surely of one class.

Shape letters: H rows, W columns, V vertices.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from rsfm.scene.classes import CLASSES, LandClass
from rsfm.scene.layout import Layout

FEWEST, MOST = 8, 12
"""Polygons of a class."""
CLEARANCE = 2.0
"""Pixels left to the border of the class."""
SMALLEST_ROOM = 2.0
"""A place this few pixels from what is no longer free is not worth a polygon."""


class DrawnPolygon(NamedTuple):
    """Attributes: vertices_V2: row and column of the corners, in pixels from the scene's corner, not closed."""

    land_class: LandClass
    vertices_V2: NDArray[np.float64]


def draw_polygons(layout: Layout, seed: int) -> list[DrawnPolygon]:
    """Draw polygons of every class on ground that is the same in both summers; they do not touch each other."""
    random = np.random.default_rng([seed, 5])
    return [
        DrawnPolygon(land_class, vertices_V2)
        for value, land_class in enumerate(CLASSES, start=1)
        for vertices_V2 in _draw(random, (layout.before_HW == value) & ~layout.changed_HW, layout.spacing)
    ]


def _draw(random: np.random.Generator, ground_HW: NDArray[np.bool_], spacing: float) -> list[NDArray[np.float64]]:
    """Draw the polygons of one class, one after the other, each on what the others have left free."""
    edge_HW = np.zeros_like(ground_HW)
    edge_HW[1:-1, 1:-1] = True
    room_HW = distance_transform_edt(ground_HW & edge_HW).astype(np.float32) - np.float32(CLEARANCE)
    rows, columns = np.ogrid[: len(room_HW), : len(room_HW)]
    drawn: list[NDArray[np.float64]] = []
    for _ in range(random.integers(FEWEST, MOST + 1)):
        if room_HW.max() < SMALLEST_ROOM:
            break
        places = np.argwhere(room_HW >= max(SMALLEST_ROOM, min(0.6 * room_HW.max(), 0.055 * spacing)))
        centre = places[random.integers(len(places))]
        reach = random.uniform(0.12, 0.28) * max(spacing, 36)
        drawn.append(_around(random, room_HW > 0, centre, reach))
        taken_HW = np.hypot(rows - centre[0], columns - centre[1]) - 0.45 * spacing
        room_HW = np.minimum(room_HW, taken_HW.astype(np.float32))
    return drawn


def _around(
    random: np.random.Generator, free_HW: NDArray[np.bool_], centre: NDArray[np.int64], reach: float
) -> NDArray[np.float64]:
    """Walk from a centre in 7 to 11 directions, up to `reach` pixels or the end of the free ground; join the ends."""
    corners = int(random.integers(7, 12))
    angles = (np.arange(corners) + random.uniform(-0.3, 0.3, corners)) * 2 * np.pi / corners
    directions = np.stack([np.sin(angles), np.cos(angles)], 1)
    steps = np.arange(0, reach, 0.5)
    path = np.rint(centre + directions[:, None] * steps[None, :, None]).astype(int).clip(0, len(free_HW) - 1)
    blocked = ~free_HW[path[..., 0], path[..., 1]]
    lengths = np.where(blocked.any(1), blocked.argmax(1), len(steps)) * 0.5
    lengths *= random.uniform(0.8, 1, corners)
    lengths = np.minimum(lengths, 2.5 * np.minimum(np.roll(lengths, 1), np.roll(lengths, -1)) + 1)
    vertices_V2: NDArray[np.float64] = centre + 0.5 + directions * np.maximum(lengths, 1)[:, None]
    return vertices_V2
