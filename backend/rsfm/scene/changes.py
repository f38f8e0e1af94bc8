"""What happened between the two summers: halls and houses were built, wood was felled, a pond was dug.

Shape letters: H rows, W columns, P parcels.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, distance_transform_edt, find_objects

from rsfm.scene.classes import BARE, FOREST, INDUSTRIAL, NARROW, ORCHARD, RESIDENTIAL, WATER, WIDE


class Works(NamedTuple):
    """A kind of building site.

    Attributes:
        becomes: class afterwards.
        on: classes it may take the place of.
        sites: how many on a scene of 200 parcels; at least one.
        half_length, half_width: in parcel spacings, before a random factor from 0.75 to 1.25.
        corner: 2 is an ellipse, more is squarer.
    """

    becomes: int
    on: tuple[int, ...]
    sites: int
    half_length: float
    half_width: float
    corner: float


WORKS = (
    Works(INDUSTRIAL, (NARROW, WIDE, BARE), 6, 0.36, 0.24, 16),
    Works(RESIDENTIAL, (NARROW, WIDE, ORCHARD), 6, 0.32, 0.24, 8),
    Works(BARE, (FOREST,), 4, 0.36, 0.26, 2.5),
    Works(WATER, (NARROW, WIDE), 1, 0.26, 0.20, 2),
)
PARCELS_OF_A_SCENE = 200


def build(
    random: np.random.Generator,
    parcel_HW: NDArray[np.int32],
    before_HW: NDArray[np.uint8],
    angle_P: NDArray[np.float32],
    spacing: float,
) -> NDArray[np.uint8]:
    """Return the classes of the second summer, after_HW; each site lies within one parcel, along its direction."""
    after_HW = before_HW.copy()
    boxes = find_objects(parcel_HW + 1)
    free = random.permutation([parcel for parcel, box in enumerate(boxes) if box is not None])
    share = parcel_HW.size / (PARCELS_OF_A_SCENE * spacing**2)
    for works in WORKS:
        wanted, left = max(1, round(works.sites * share)), []
        for parcel in free:
            box = boxes[parcel]
            ground = (parcel_HW[box] == parcel) & np.isin(before_HW[box], works.on)
            site = _site(random, works, ground, float(angle_P[parcel]), spacing) if wanted else None
            if site is None:
                left.append(parcel)
            else:
                after_HW[box][site] = works.becomes
                wanted -= 1
        free = np.array(left)
    return after_HW


def _site(
    random: np.random.Generator, works: Works, ground: NDArray[np.bool_], angle: float, spacing: float
) -> NDArray[np.bool_] | None:
    """Mark the building site on a parcel's ground, two pixels off its border; None where there is no room for it."""
    room = distance_transform_edt(np.pad(ground, 1))[1:-1, 1:-1]
    half_length, half_width = np.array([works.half_length, works.half_width]) * spacing * random.uniform(0.75, 1.25)
    if room.max() < half_width:
        return None
    row, column = np.unravel_index(int(room.argmax()), room.shape)
    rows, columns = np.indices(ground.shape)
    along = (columns - column) * np.cos(angle) + (rows - row) * np.sin(angle)
    across = (rows - row) * np.cos(angle) - (columns - column) * np.sin(angle)
    inside = np.abs(along / half_length) ** works.corner + np.abs(across / half_width) ** works.corner < 1
    return np.asarray(inside & binary_erosion(ground, iterations=2))
