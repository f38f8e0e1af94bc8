"""Splits labelled polygons into what is learnt from and what is judged by, in blocks of ground.

Neighbouring pixels resemble each other, so a score on pixels next to the training pixels flatters. Polygons stay whole,
a block goes to one side as a whole, and test pixels close to a training polygon are dropped.

Shape letters: N labelled pixels, P polygons, K classes, G groups of polygons (blocks).
"""

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyogrio.raw
import shapely
from numpy.typing import NDArray

from rsfm.raster.geopackage import GEOPACKAGE
from rsfm.raster.grid import Grid, Window
from rsfm.raster.labelled_polygons import Flags, Polygons, asked_side, attempts, in_gap, measure, renumber
from rsfm.raster.labels import Indices, Labels

GAP = 8
"""Pixels between training and test."""
TRIES = 24
"""Random orders in which the blocks are dealt out; the best balanced deal is kept."""
FEWEST_POLYGONS = 3
"""With fewer polygons in a class, cross-validation says nothing."""


class Block(NamedTuple):
    """A square of ground, cut to the raster, and the part it belongs to: "train", "test", or "turn 1", "turn 2"..."""

    window: Window
    part: str


class Split(NamedTuple):
    """Which labelled pixels are for training and which for test; those in the gap are in neither.

    Attributes:
        block_px: side of the blocks; 0 when polygons were dealt out one by one.
        gap_px: distance kept between the two parts.
        blocks: those with labels in them, for drawing.
        sentences: what the user should know.
    """

    train_N: Flags
    test_N: Flags
    block_px: int
    gap_px: int
    blocks: tuple[Block, ...]
    sentences: tuple[str, ...]


class Folds(NamedTuple):
    """Attributes: fold_N: 0 to folds - 1 for each labelled pixel, None when it cannot be judged; sentences: why not."""

    fold_N: Indices | None
    folds: int
    sentences: tuple[str, ...]


def split_blocks(labels: Labels, grid: Grid, block_m: float, seed: int, gap: int = GAP) -> Split:
    """Deal blocks of ground to training and test so that every class with two polygons or more is on both sides.

    Blocks are squares counted from the raster's pixel (0, 0); a polygon belongs to the block of its centroid. Where a
    class would vanish from a side, blocks are made smaller first, then the gap.

    Args:
        block_m: side of a block in metres; 0 takes an eighth of the labelled extent.
        gap: test pixels within this many pixels of a training polygon are dropped.
    """
    labels = renumber(labels)
    polygons = measure(labels, gap)
    asked = asked_side(labels, grid, block_m)
    for kept_gap, block_px, group_P in attempts(polygons, grid, asked, gap):
        train_P = _deal(labels, polygons, group_P, kept_gap, seed)
        if train_P is not None:
            train_N = train_P[labels.polygon_N]
            test_N = ~train_N & ~in_gap(polygons, train_P, kept_gap, len(train_N))
            part_P = np.where(train_P, "train", "test")
            blocks = draw_blocks(labels, polygons, group_P, part_P, block_px, grid)
            told = say_split(labels, asked, block_px, gap, kept_gap, grid)
            return Split(train_N, test_N, block_px, kept_gap, blocks, told)
    raise AssertionError("without a gap, polygons can always be dealt out one by one")


def polygon_folds(labels: Labels, folds: int, seed: int) -> Folds:
    """Deal polygons to folds for cross-validation: whole, and every class in every fold.

    There are fewer folds when a class has fewer polygons; with fewer than three in a class there are none.
    """
    labels = renumber(labels)
    scarce = [
        f"'{name}' ({count})"
        for name, count in zip(labels.names, labels.polygons, strict=True)
        if count < FEWEST_POLYGONS
    ]
    if scarce:
        verb = "have" if len(scarce) > 1 else "has"
        told = (
            f"{', '.join(scarce)} {verb} fewer than {FEWEST_POLYGONS} polygons, so it cannot be judged by "
            "cross-validation which features are best. Draw more polygons."
        )
        return Folds(None, 0, (told,))
    random = np.random.default_rng(seed)
    count = max(min(folds, *labels.polygons), 2)
    polygons = measure(labels, gap=0)
    fold_P = np.zeros(len(polygons.class_P), np.int64)
    load = np.zeros(count)
    for value in range(len(labels.names)):
        own = random.permutation(np.flatnonzero(polygons.class_P == value))
        class_load = np.zeros(count)
        for polygon in own[np.argsort(-polygons.pixels_P[own], kind="stable")]:
            fold = int(np.lexsort((load, class_load))[0])
            fold_P[polygon] = fold
            class_load[fold] += polygons.pixels_P[polygon]
            load[fold] += polygons.pixels_P[polygon]
    return Folds(fold_P[labels.polygon_N], count, ())


def write_split(path: Path, split: Split, grid: Grid) -> None:
    """Write the blocks as a GeoPackage with an attribute "part", which is "train" or "test"."""
    partial = path.with_name(f"{path.stem}.partial{path.suffix}")
    partial.unlink(missing_ok=True)
    shapes = [shapely.Polygon([grid.transform @ corner for corner in _corners(block.window)]) for block in split.blocks]
    pyogrio.raw.write(
        partial,
        np.array(shapely.to_wkb(shapes), object),
        field_data=[np.array([block.part for block in split.blocks], object)],
        fields=np.array(["part"], object),
        layer="split",
        geometry_type="Polygon",
        crs=grid.crs.to_wkt() if grid.crs else None,
        **GEOPACKAGE,
    )
    os.replace(partial, path)


def _deal(labels: Labels, polygons: Polygons, group_P: Indices, gap: int, seed: int) -> Flags | None:
    """Return which polygons are for training, from the best balanced of several deals; None if none is possible."""
    random = np.random.default_rng(seed)
    counts_GK = np.zeros((int(group_P.max()) + 1, len(labels.names)))
    np.add.at(counts_GK, (group_P, polygons.class_P), polygons.pixels_P)
    single_K = np.array(labels.polygons) == 1
    best, best_score = None, np.inf
    for _ in range(TRIES):
        train_G = _deal_once(random, counts_GK, single_K)
        train_P = train_G[group_P]
        kept_N = ~in_gap(polygons, train_P, gap, len(labels.class_N)) & ~train_P[labels.polygon_N]
        test_K = np.bincount(labels.class_N[kept_N], minlength=len(labels.names))
        train_K = counts_GK[train_G].sum(0)
        possible = (train_K > 0).all() and (test_K[~single_K] > 0).all()
        score = float(np.abs(train_K - test_K)[~single_K] @ (1 / counts_GK.sum(0)[~single_K]))
        if possible and score < best_score:
            best, best_score = train_P, score
    return best


def _deal_once(random: np.random.Generator, counts_GK: NDArray[np.float64], single_K: Flags) -> Flags:
    """Deal the blocks of the rarest class first, each to the side that lacks its classes more."""
    share_GK = counts_GK / counts_GK.sum(0)
    side_G = np.zeros(len(counts_GK), np.int64)  # 1 training, -1 test, 0 not dealt yet
    side_G[(counts_GK[:, single_K] > 0).any(1)] = 1
    for value in np.argsort((counts_GK > 0).sum(0), kind="stable"):
        own = random.permutation(np.flatnonzero((counts_GK[:, value] > 0) & (side_G == 0)))
        for group in own[np.argsort(-counts_GK[own, value], kind="stable")]:
            lead_K = np.asarray(side_G @ share_GK)
            lead = lead_K[value] if abs(lead_K[value]) > 1e-9 else lead_K @ share_GK[group]
            side_G[group] = -1 if lead > 1e-9 else 1 if lead < -1e-9 else random.choice([-1, 1])
    return np.asarray(side_G > 0)


def draw_blocks(
    labels: Labels, polygons: Polygons, group_P: Indices, part_P: NDArray[Any], block_px: int, grid: Grid
) -> tuple[Block, ...]:
    found = []
    for polygon in np.unique(group_P, return_index=True)[1]:
        if block_px:
            row, column = (int(at[polygon] // block_px) * block_px for at in (polygons.row_P, polygons.column_P))
            window = Window(row, column, block_px, block_px).intersection(grid.window)
        else:
            rows, columns = (at[labels.polygon_N == polygon] for at in (labels.rows_N, labels.columns_N))
            window = Window(int(rows.min()), int(columns.min()), int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1)
        found.append(Block(window, str(part_P[polygon])))
    return tuple(found)


def say_split(
    labels: Labels, asked: int, block_px: int, gap: int, kept_gap: int, grid: Grid, turns: int = 0
) -> tuple[str, ...]:
    told = []
    if not block_px:
        told.append("Polygons were dealt out one by one, because in blocks a class would be missing on one side.")
    elif block_px < asked:
        told.append(
            f"Blocks of {asked * grid.gsd:.4g} m would leave a class on one side only; blocks of "
            f"{block_px * grid.gsd:.4g} m are used."
        )
    else:
        told.append(f"The scores come from blocks of {block_px * grid.gsd:.4g} m that were held out.")
    if turns:
        told.append(f"They were dealt into {turns} parts, and each was held out once.")
    told += say_gap(gap, kept_gap)
    told += [
        f"'{name}' has one polygon: it is learnt from and cannot be judged. Draw two more elsewhere."
        for name, count in zip(labels.names, labels.polygons, strict=True)
        if count == 1
    ]
    return tuple(told)


def say_gap(gap: int, kept_gap: int) -> list[str]:
    """Say that the gap had to be made smaller, if it had."""
    if kept_gap == gap:
        return []
    return [
        f"The gap between training and test is {kept_gap} px instead of {gap} px, because the polygons of a class "
        "lie close together; scores may flatter."
    ]


def _corners(window: Window) -> list[tuple[int, int]]:
    """Return column and row of the corners."""
    right, bottom = window.column + window.width, window.row + window.height
    return [(window.column, window.row), (right, window.row), (right, bottom), (window.column, bottom)]
