"""Judges by polygons of the user's own, from which nothing is learned, instead of by blocks of the labels.

Shape letters: N labelled pixels.
"""

from pathlib import Path

import numpy as np

from rsfm.errors import UserError
from rsfm.raster.blocks import GAP, Split, draw_blocks, say_gap
from rsfm.raster.grid import Grid
from rsfm.raster.label_file import Parameters, split_source
from rsfm.raster.labelled_polygons import gaps, in_gap, measure
from rsfm.raster.labels import Labels, read_labels
from rsfm.raster.reader import Raster

PARAMETERS = Parameters(labels="validation")


def read_validation(path: str, class_field: str, raster: Raster, labels: Labels) -> Labels:
    """Find the pixels of polygons to judge by, with the classes of `labels`; one class is enough.

    Raises:
        UserError: in one sentence or two, why nothing can be judged by them.
    """
    name = _name(path)
    found = read_labels(path, class_field, raster, PARAMETERS, fewest=1)
    unknown = [f"'{each}'" for each in found.names if each not in labels.names]
    if unknown:
        known = ", ".join(f"'{each}'" for each in labels.names)
        raise UserError(
            f"'{name}' has polygons of {', '.join(unknown)}, and what is learned from has {known} only. Correct the "
            f"names in '{class_field}', or draw polygons of that class under 'Labels'.",
            "validation",
        )
    shared_N = np.isin(_pixels(found, raster.grid), _pixels(labels, raster.grid))
    if shared_N.all():
        raise UserError(
            f"All pixels of '{name}' lie in polygons that are learned from, so that a score would say nothing. Draw "
            "polygons elsewhere, or leave 'Validation' empty.",
            "validation",
        )
    notes = list(found.notes)
    if shared_N.any():
        count = int(shared_N.sum())
        notes.append(f"{count} pixels of '{name}' lie in polygons that are learned from, and do not count in scores.")
    class_N = np.array([labels.names.index(each) for each in found.names])[found.class_N]
    return found._replace(
        names=labels.names,
        colours=labels.colours,
        rows_N=found.rows_N[~shared_N],
        columns_N=found.columns_N[~shared_N],
        class_N=class_N[~shared_N],
        polygon_N=found.polygon_N[~shared_N],
        notes=tuple(notes),
    )


def join(labels: Labels, others: Labels) -> Labels:
    """Put labels behind labels of the same classes; `polygons` stays that of the first."""
    first = int(labels.polygon_N.max()) + 1
    return labels._replace(
        rows_N=np.concatenate([labels.rows_N, others.rows_N]),
        columns_N=np.concatenate([labels.columns_N, others.columns_N]),
        class_N=np.concatenate([labels.class_N, others.class_N]),
        polygon_N=np.concatenate([labels.polygon_N, others.polygon_N + first]),
    )


def split_by(labels: Labels, others: Labels, path: str, grid: Grid, gap: int = GAP) -> Split:
    """Learn from all labels, and judge by all others that keep the gap to them; of `join(labels, others)`.

    Where a class could not be judged for the gap, it is made smaller.
    """
    joined = join(labels, others)
    polygon_N = np.unique(joined.polygon_N, return_inverse=True)[1]
    joined = joined._replace(polygon_N=polygon_N)
    train_N = np.arange(len(polygon_N)) < len(labels.class_N)
    polygons = measure(joined, gap)
    train_P = np.arange(len(polygons.class_P)) < len(np.unique(labels.polygon_N))
    wanted = np.unique(others.class_N)
    for kept_gap in gaps(gap):
        test_N = ~train_N & ~in_gap(polygons, train_P, kept_gap, len(polygon_N))
        if np.isin(wanted, joined.class_N[test_N]).all():
            break
    alone_P = np.arange(len(train_P))
    blocks = draw_blocks(joined, polygons, alone_P, np.where(train_P, "train", "test"), 0, grid)
    return Split(train_N, test_N, 0, kept_gap, blocks, _say(labels, others, _name(path), gap, kept_gap))


def _say(labels: Labels, others: Labels, name: str, gap: int, kept_gap: int) -> tuple[str, ...]:
    count = len(np.unique(others.polygon_N))
    told = [f"The scores come from the {count} polygon{'s' if count > 1 else ''} of '{name}', your own."]
    told += say_gap(gap, kept_gap)
    told += [
        f"'{each}' has no pixel in '{name}' and cannot be judged."
        for value, each in enumerate(labels.names)
        if not (others.class_N == value).any()
    ]
    return tuple(told)


def _pixels(labels: Labels, grid: Grid) -> np.ndarray:
    return labels.rows_N * grid.width + labels.columns_N


def _name(path: str) -> str:
    return Path(split_source(path)[0]).name
