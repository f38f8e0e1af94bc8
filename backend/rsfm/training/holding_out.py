"""What a head learns from and what it is judged by: blocks held out once or in turn, or polygons of the user's own.

Shape letters: N labelled pixels.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rsfm.raster.block_turns import split_in_turns
from rsfm.raster.blocks import GAP, Split, split_blocks
from rsfm.raster.grid import Grid
from rsfm.raster.labels import Labels
from rsfm.raster.own_validation import join, split_by
from rsfm.training.linear_fit import thin


class HeldOut(NamedTuple):
    """Labelled pixels, and their parts.

    Attributes:
        labels: all of them; those of polygons to judge by come last and are not counted in `labels.polygons`.
        learn_N: what may be learned from in the end: all but those.
        splits: one, or one for each turn, of all the pixels.
    """

    labels: Labels
    learn_N: NDArray[np.bool_]
    splits: tuple[Split, ...]

    @property
    def learned(self) -> Labels:
        """The labels that may be learned from."""
        return only(self.labels, self.learn_N)

    @property
    def sentences(self) -> tuple[str, ...]:
        return self.splits[0].sentences

    def thinned(self, most: int, seed: int) -> "HeldOut":
        """Keep at most so many pixels of each class of what is learned from, and of what is judged by."""
        kept = thin(2 * self.labels.class_N + self.learn_N, self.labels.polygon_N, most, seed)
        splits = [split._replace(train_N=split.train_N[kept], test_N=split.test_N[kept]) for split in self.splits]
        return HeldOut(only(self.labels, kept), self.learn_N[kept], tuple(splits))


class Rule(NamedTuple):
    """How to hold out.

    Attributes:
        validation: file of the polygons to judge by, for sentences, and their pixels; None holds out blocks.
        block_m: side of the blocks; 0 chooses it.
        folds: parts of which each is held out once; 1 holds out half of the blocks.
    """

    validation: tuple[str, Labels] | None
    block_m: float
    folds: int
    seed: int


def hold_out(labels: Labels, grid: Grid, rule: Rule, gap: int = GAP) -> HeldOut:
    """Split labels by a rule.

    Args:
        gap: pixels between training and test.
    """
    if rule.validation is not None:
        path, others = rule.validation
        split = split_by(labels, others, path, grid, gap)
        return HeldOut(join(labels, others), split.train_N, (split,))
    if rule.folds > 1:
        splits = split_in_turns(labels, grid, rule.block_m, rule.folds, rule.seed, gap)
    else:
        splits = (split_blocks(labels, grid, rule.block_m, rule.seed, gap),)
    return HeldOut(labels, np.ones(len(labels.class_N), bool), splits)


def only(labels: Labels, kept: NDArray[Any]) -> Labels:
    """Return some of the labelled pixels."""
    return labels._replace(
        rows_N=labels.rows_N[kept],
        columns_N=labels.columns_N[kept],
        class_N=labels.class_N[kept],
        polygon_N=labels.polygon_N[kept],
    )
