"""Boxes around objects, in pixels of a raster, and how much two of them share. Plain numbers, no files.

A box's corners are edges of pixels: pixel (0, 0) reaches from 0 to 1. Shape letters: N boxes, M pairs of boxes.
"""

import numpy as np
import shapely
from numpy.typing import NDArray

BOX = np.dtype(
    [
        ("left", "f8"),
        ("top", "f8"),
        ("right", "f8"),
        ("bottom", "f8"),
        ("score", "f4"),
        ("value", "i4"),
        ("tile", "i8"),
        ("own", "?"),
    ]
)
"""A box, its score, the value of its class, the tile that saw it, and whether its centre lies in that tile's core."""

Boxes = NDArray[np.void]


def make_boxes(corners_N4: NDArray[np.floating], score_N: NDArray[np.floating], value_N: NDArray[np.integer]) -> Boxes:
    """Make boxes of left, top, right, bottom, as if one tile had seen them all."""
    boxes_N = np.zeros(len(corners_N4), BOX)
    for index, side in enumerate(("left", "top", "right", "bottom")):
        boxes_N[side] = corners_N4[:, index]
    boxes_N["score"], boxes_N["value"], boxes_N["own"] = score_N, value_N, True
    return boxes_N


def corners(boxes_N: Boxes) -> NDArray[np.float64]:
    """Return corners_N4: left, top, right, bottom."""
    return np.stack([boxes_N[side] for side in ("left", "top", "right", "bottom")], axis=1)


def centres(boxes_N: Boxes) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return rows and columns of the centres."""
    return (boxes_N["top"] + boxes_N["bottom"]) / 2, (boxes_N["left"] + boxes_N["right"]) / 2


def clip(boxes_N: Boxes, height: int, width: int) -> Boxes:
    """Cut boxes to a raster; what lies outside is left out."""
    clipped_N = boxes_N.copy()
    for side, size in (("left", width), ("top", height), ("right", width), ("bottom", height)):
        clipped_N[side] = np.clip(clipped_N[side], 0, size)
    kept_N = (clipped_N["right"] > clipped_N["left"]) & (clipped_N["bottom"] > clipped_N["top"])
    return clipped_N[kept_N]


def touching(boxes_N: Boxes, others_N: Boxes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the indices of the pairs, first_M and second_M, that share at least a point."""
    if not len(boxes_N) or not len(others_N):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    first_M, second_M = shapely.STRtree(polygons(others_N)).query(polygons(boxes_N))
    return first_M, second_M


def polygons(boxes_N: Boxes) -> NDArray[np.object_]:
    """Return a polygon for each box, in (column, row)."""
    return np.asarray(shapely.box(*corners(boxes_N).T), object)


def overlaps(boxes_M: Boxes, others_M: Boxes) -> NDArray[np.float64]:
    """Return the intersection over union of pairs of boxes."""
    width_M = np.minimum(boxes_M["right"], others_M["right"]) - np.maximum(boxes_M["left"], others_M["left"])
    height_M = np.minimum(boxes_M["bottom"], others_M["bottom"]) - np.maximum(boxes_M["top"], others_M["top"])
    shared_M = np.clip(width_M, 0, None) * np.clip(height_M, 0, None)
    total_M = areas(boxes_M) + areas(others_M) - shared_M
    return np.asarray(shared_M / np.maximum(total_M, 1e-12))


def areas(boxes_N: Boxes) -> NDArray[np.float64]:
    """Return the areas in pixels."""
    return np.asarray((boxes_N["right"] - boxes_N["left"]) * (boxes_N["bottom"] - boxes_N["top"]))
