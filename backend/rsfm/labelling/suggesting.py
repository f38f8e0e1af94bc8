"""The job that says where to label next.

Shape letters: K classes, M candidates, D features, H rows, W columns of pixels, h and w of cells, S spots.
"""

from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyogrio.raw
import shapely
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from rsfm.errors import UserError
from rsfm.jobs.suggest_labels import SuggestLabelsConfig
from rsfm.labelling.feature_cache import Block, FeatureCache, Indices
from rsfm.labelling.labelled_shapes import LabelledShapes, Training
from rsfm.labelling.learners import Learner, learn
from rsfm.labelling.quick_map import values_of
from rsfm.labelling.spots import choose_spots, margin
from rsfm.labelling.workbench import open_cache
from rsfm.outputs.spots import Spots
from rsfm.raster.area import Area, read_area
from rsfm.raster.geopackage import GEOPACKAGE
from rsfm.raster.grid import Grid, Window
from rsfm.raster.label_file import Drawing, Parameters, read_drawing
from rsfm.raster.reader import Raster
from rsfm.runs import Run

MOST_PIXELS = 4_000_000
"""Of the area; of a larger one, parts spread over it are looked at."""
LATTICE = 16
"""Pixels between candidates."""
SMOOTHED = 5
"""Cells over whose square uncertainty is averaged: a place is to be labelled, not a pixel."""
ENDLESS = 1e9


class Candidates(NamedTuple):
    """Places that could be labelled: the pixel, how uncertain it is, its two likeliest classes, its features."""

    rows_M: Indices
    columns_M: Indices
    uncertain_M: NDArray[np.float32]
    first_M: Indices
    second_M: Indices
    features_MD: NDArray[np.float32]


def suggest_labels(config: SuggestLabelsConfig, run: Run) -> dict[str, Any]:
    """Write the places where the next labels would teach most."""
    with open_cache(config, run) as cache:
        grid = cache.raster.grid
        area = read_area(grid, config.area)
        drawing = read_drawing(config.labels, config.class_field, grid.crs, Parameters())
        shapes = LabelledShapes(cache, config.seed)
        run.progress(0.0, "Reading the labels")
        training = shapes.collect(drawing, area.window, ENDLESS, run.check)
        learner = learn(config.learner, training.features_ND, training.class_N, len(training.names), config.seed)
        found = _look(cache, learner, area, config.seed, run)
        found = _off_labels(found, drawing, grid)
        if not len(found.rows_M):
            raise UserError(
                "Nothing is left to label: the polygons cover all valid pixels of the area. Choose a larger one under "
                "'Area'.",
                "area",
            )
        places_M2 = np.stack([found.columns_M, found.rows_M], 1).astype(np.float64)
        ground = float(area.window.height * area.window.width)
        chosen_S = choose_spots(
            found.uncertain_M, found.features_MD, places_M2, training.features_ND, config.count, ground
        )
        path = run.outputs / "where_to_label.gpkg"
        _write(path, found, chosen_S, training, grid)
        run.output("spots", path, "Where to label next")
        return _summary(found, chosen_S, training, cache.raster)


def _look(cache: FeatureCache, learner: Learner, area: Area, seed: int, run: Run) -> Candidates:
    """Find the most uncertain place of each square of the lattice."""
    windows = _parts(cache, area.window, seed)
    found = []
    for number, window in enumerate(windows):
        run.progress(number / len(windows), "Looking where classes are hard to tell apart")
        for part in cache.missing(window):
            run.check()
            cache.compute(part, run.check)
        found += [_candidates(block, cache, learner, area) for block in cache.blocks(window)]
    return Candidates(*(np.concatenate(column) for column in zip(*found, strict=True)))


def _parts(cache: FeatureCache, window: Window, seed: int) -> list[Window]:
    """Return a window, or where it is large some blocks of it, each from a square of its own."""
    side = cache.side
    cells = window.cells(side)
    count = cells.height * cells.width
    every = max(1, round((count * side * side / MOST_PIXELS) ** 0.5))
    if every == 1:
        return [cache.look_at(window)]
    random = np.random.default_rng(seed)
    parts = []
    for row in range(0, cells.height, every):
        for column in range(0, cells.width, every):
            down, right = random.integers(every, size=2).tolist()
            at = (min(row + down, cells.height - 1) + cells.row, min(column + right, cells.width - 1) + cells.column)
            parts.append(Window(at[0] * side, at[1] * side, side, side).intersection(cache.raster.grid.window))
    return parts


def _candidates(block: Block, cache: FeatureCache, learner: Learner, area: Area) -> Candidates:
    """Return the place of each square of a block where uncertainty, averaged around, is largest."""
    stride = cache.stride
    values_Khw = values_of(block, learner)
    shape = values_Khw.shape[1:]
    uncertain_N, first_N, second_N = margin(values_Khw.reshape(len(values_Khw), -1))
    rows_hw, columns_hw = np.indices(shape)
    height, width = block.valid_HW.shape
    middle_rows = np.minimum(rows_hw * stride + stride // 2, height - 1)
    middle_columns = np.minimum(columns_hw * stride + stride // 2, width - 1)
    usable_HW = block.valid_HW & area.inside(block.window)
    usable_hw = usable_HW[middle_rows, middle_columns]
    row_hw, column_hw = middle_rows + block.window.row - area.window.row, middle_columns + block.window.column
    column_hw = column_hw - area.window.column
    usable_hw &= (row_hw >= 0) & (row_hw < area.window.height) & (column_hw >= 0) & (column_hw < area.window.width)
    weight_hw = uniform_filter(usable_hw.astype(np.float32), SMOOTHED, mode="constant")
    total_hw = uniform_filter(np.where(usable_hw, uncertain_N.reshape(shape), 0), SMOOTHED, mode="constant")
    smooth_hw = np.where(usable_hw, total_hw / np.maximum(weight_hw, 1e-6), -1)
    best_M = _best_of_squares(smooth_hw, max(1, LATTICE // stride))
    return Candidates(
        (middle_rows.ravel()[best_M] + block.window.row).astype(np.int64),
        (middle_columns.ravel()[best_M] + block.window.column).astype(np.int64),
        smooth_hw.ravel()[best_M].astype(np.float32),
        first_N[best_M],
        second_N[best_M],
        block.features_Dhw.reshape(cache.width, -1).T[best_M].astype(np.float32),
    )


def _best_of_squares(value_hw: NDArray[np.float32], side: int) -> Indices:
    """Return the flat index of the largest value of each square; none where all are negative."""
    height, width = value_hw.shape
    padded_hw = np.pad(value_hw, ((0, -height % side), (0, -width % side)), constant_values=-1)
    rows, columns = padded_hw.shape[0] // side, padded_hw.shape[1] // side
    squares = padded_hw.reshape(rows, side, columns, side).swapaxes(1, 2).reshape(rows * columns, -1)
    best = squares.argmax(axis=1)
    there = squares[np.arange(len(squares)), best] >= 0
    square_row, square_column = np.divmod(np.arange(len(squares)), columns)
    row, column = square_row * side + best // side, square_column * side + best % side
    return np.asarray((row * width + column)[there], np.int64)


def _off_labels(found: Candidates, drawing: Drawing, grid: Grid) -> Candidates:
    """Leave out what is labelled already, or lies beside it."""
    points_M = _points(found.rows_M, found.columns_M, grid)
    near = LATTICE * max(abs(grid.transform.a), abs(grid.transform.e))
    shapes = np.array(drawing.shapes_F, object)
    shapes = shapes[np.isfinite(shapely.bounds(shapes)).all(axis=1)]
    taken = shapely.STRtree(shapes).query(points_M, predicate="dwithin", distance=near)[0]
    free = np.ones(len(found.rows_M), bool)
    free[taken] = False
    kept: list[Any] = [column[free] for column in found]
    return Candidates(*kept)


def _points(rows_M: Indices, columns_M: Indices, grid: Grid) -> NDArray[Any]:
    """Return the centres of pixels."""
    a, b, c, d, e, f = grid.transform[:6]
    xs_M, ys_M = columns_M + 0.5, rows_M + 0.5
    return np.asarray(shapely.points(a * xs_M + b * ys_M + c, d * xs_M + e * ys_M + f))


def _write(path: Path, found: Candidates, chosen_S: Indices, training: Training, grid: Grid) -> None:
    """Write the spots, numbered, as points at the centres of their pixels."""
    names = np.array(training.names, object)
    columns = [
        np.arange(1, len(chosen_S) + 1),
        np.round(found.uncertain_M[chosen_S].astype(np.float64), 3),
        names[found.first_M[chosen_S]],
        names[found.second_M[chosen_S]],
    ]
    partial = path.with_name(f"{path.stem}.partial{path.suffix}")
    partial.unlink(missing_ok=True)
    crs = None if grid.crs is None else grid.crs.to_wkt()
    points = shapely.to_wkb(_points(found.rows_M[chosen_S], found.columns_M[chosen_S], grid))
    pyogrio.raw.write(
        partial, points, columns, list(Spots.fields), layer=path.stem, geometry_type="Point", crs=crs, **GEOPACKAGE
    )
    partial.replace(path)


def _summary(found: Candidates, chosen_S: Indices, training: Training, raster: Raster) -> dict[str, Any]:
    pairs = Counter(
        tuple(sorted((training.names[first], training.names[second])))
        for first, second in zip(found.first_M[chosen_S], found.second_M[chosen_S], strict=True)
    )
    (one, other), _ = pairs.most_common(1)[0]
    mean = float(found.uncertain_M[chosen_S].mean())
    return {
        "sentence": f"{len(chosen_S)} places of '{raster.name}' to label next, most of them between '{one}' and "
        f"'{other}'. Label what you see there, then ask again.",
        "uncertainty_of_the_spots": round(mean, 3),
        "uncertainty_of_all": round(float(found.uncertain_M.mean()), 3),
    }
