"""Deals blocks of ground to parts of which each is held out once: k-fold cross-validation by blocks.

Shape letters: N labelled pixels, P polygons, K classes, G groups of polygons (blocks), T turns.
"""

import numpy as np
from numpy.typing import NDArray

from rsfm.raster.blocks import GAP, TRIES, Split, draw_blocks, say_split
from rsfm.raster.grid import Grid
from rsfm.raster.labelled_polygons import Flags, Polygons, asked_side, attempts, in_gap, measure, renumber
from rsfm.raster.labels import Indices, Labels


def split_in_turns(
    labels: Labels, grid: Grid, block_m: float, turns: int, seed: int, gap: int = GAP
) -> tuple[Split, ...]:
    """Deal blocks of ground to parts of which each is for test once, and for training otherwise: k-fold by blocks.

    Every class with two polygons or more is on both sides of the turns taken together, and in training in each of them;
    a class with one is always in training. Blocks and gap shrink as in `split_blocks`.

    Args:
        turns: how many parts, at least 2; there are fewer where the polygons are.

    Returns:
        The split of each turn; all of them hold the same blocks, each with its turn, and the same sentences.
    """
    labels = renumber(labels)
    polygons = measure(labels, gap)
    asked = asked_side(labels, grid, block_m)
    for kept_gap, block_px, group_P in attempts(polygons, grid, asked, gap):
        turn_P = _deal_turns(labels, polygons, group_P, turns, kept_gap, seed)
        if turn_P is not None:
            there = np.unique(turn_P[turn_P >= 0]).tolist()
            part_P = np.array(["train" if turn < 0 else f"turn {there.index(turn) + 1}" for turn in turn_P.tolist()])
            blocks = draw_blocks(labels, polygons, group_P, part_P, block_px, grid)
            told = say_split(labels, asked, block_px, gap, kept_gap, grid, len(there))
            sides = [_sides(labels, polygons, turn_P, turn, kept_gap) for turn in there or [0]]
            return tuple(Split(*both, block_px, kept_gap, blocks, told) for both in sides)
    raise AssertionError("without a gap, polygons can always be dealt out one by one")


def _deal_turns(
    labels: Labels, polygons: Polygons, group_P: Indices, turns: int, gap: int, seed: int
) -> Indices | None:
    """Return the turn in which each polygon is for test, -1 for never; None if no deal is possible."""
    random = np.random.default_rng(seed)
    counts_GK = np.zeros((int(group_P.max()) + 1, len(labels.names)))
    np.add.at(counts_GK, (group_P, polygons.class_P), polygons.pixels_P)
    several_K = np.array(labels.polygons) > 1
    best, best_score = None, np.inf
    for _ in range(TRIES):
        turn_G, load_TK = _deal_turns_once(random, counts_GK, ~several_K, turns)
        turn_P = turn_G[group_P]
        score = float((load_TK.max(0) - load_TK.min(0))[several_K].sum())
        if score < best_score and _is_possible(labels, polygons, turn_P, several_K, gap):
            best, best_score = turn_P, score
    return best


def _deal_turns_once(
    random: np.random.Generator, counts_GK: NDArray[np.float64], single_K: Flags, turns: int
) -> tuple[Indices, NDArray[np.float64]]:
    """Deal the blocks of the rarest class first, the largest first, each to the turn that has least of that class."""
    share_GK = counts_GK / counts_GK.sum(0)
    turn_G, load_TK = np.full(len(counts_GK), -1), np.zeros((turns, counts_GK.shape[1]))
    waiting_G = np.asarray(~(counts_GK[:, single_K] > 0).any(1))
    for value in np.argsort((counts_GK > 0).sum(0), kind="stable"):
        own = random.permutation(np.flatnonzero((counts_GK[:, value] > 0) & waiting_G))
        for group in own[np.argsort(-counts_GK[own, value], kind="stable")]:
            turn = int(np.lexsort((random.random(turns), load_TK.sum(1), load_TK[:, value]))[0])
            turn_G[group], waiting_G[group] = turn, False
            load_TK[turn] += share_GK[group]
    return turn_G, load_TK


def _is_possible(labels: Labels, polygons: Polygons, turn_P: Indices, several_K: Flags, gap: int) -> bool:
    """Tell that in every turn all classes are learnt, and that each class of several polygons is judged in some."""
    tested_K = np.zeros(len(labels.names))
    for turn in np.unique(turn_P[turn_P >= 0]):
        train_N, test_N = _sides(labels, polygons, turn_P, turn, gap)
        if not np.bincount(labels.class_N[train_N], minlength=len(tested_K)).all():
            return False
        tested_K += np.bincount(labels.class_N[test_N], minlength=len(tested_K))
    return bool((tested_K[several_K] > 0).all())


def _sides(labels: Labels, polygons: Polygons, turn_P: Indices, turn: int, gap: int) -> tuple[Flags, Flags]:
    """Return what is for training and what for test in a turn."""
    train_P = turn_P != turn
    train_N = train_P[labels.polygon_N]
    return train_N, ~train_N & ~in_gap(polygons, train_P, gap, len(train_N))
