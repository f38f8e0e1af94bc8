"""The pixels of labels that are being drawn: each shape's pixels and features are found once, and kept by its outline.

So an edit costs what the edited shape costs, and another class costs nothing.

Shape letters: F shapes, N labelled pixels, n pixels of a shape, D features.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.features import rasterize

from rsfm.errors import UserError
from rsfm.labelling.feature_cache import FeatureCache, Indices
from rsfm.raster.grid import Grid, Window
from rsfm.raster.label_file import Drawing
from rsfm.raster.labels import MOST_CLASSES, natural_order
from rsfm.training.linear_fit import thin

MOST_BURNT = 2**20
"""Pixels of a shape that are looked at; a larger one is seen as a lattice of pixels."""
MOST_A_SHAPE, MOST_A_CLASS = 300, 1200
MOST_BLOCKS = 6
"""Blocks of features that a shape may ask for."""


class Training(NamedTuple):
    """What there is to learn from.

    Attributes:
        names: of the classes that have pixels, in natural order.
        class_N: index into names.
        shapes: how many have pixels.
        waiting: shapes whose features are not computed yet.
    """

    names: tuple[str, ...]
    features_ND: NDArray[np.float32]
    class_N: Indices
    shapes: int
    waiting: int


class _Pixels(NamedTuple):
    """Some pixels of a shape, the valid ones."""

    pixel_n: Indices
    features_nD: NDArray[np.float32]


class LabelledShapes:
    """Remembers shapes of one raster."""

    def __init__(self, cache: FeatureCache, seed: int) -> None:
        self._cache, self._seed = cache, seed
        self._known: dict[bytes, _Pixels] = {}

    def collect(self, drawing: Drawing, view: Window, seconds: float, check: Callable[[], None]) -> Training:
        """Gather the pixels of the shapes, those on the screen first.

        Args:
            view: what is on the screen.
            seconds: after which shapes that are not known yet wait for the next time; at least one does not.

        Raises:
            UserError: there are not two classes to tell apart, in one sentence or two.
        """
        keys = [shapely.to_wkb(shape) for shape in drawing.shapes_F]
        self._known = {key: self._known[key] for key in keys if key in self._known}
        began, looked, waiting = time.monotonic(), 0, 0
        for index in self._nearest_first(drawing.shapes_F, view):
            if keys[index] in self._known:
                continue
            if looked and time.monotonic() - began > seconds:
                waiting += 1
                continue
            looked += 1
            self._known[keys[index]] = self._look_up(drawing.shapes_F[index], view, check)
        return self._join(drawing, keys, waiting)

    def _nearest_first(self, shapes_F: list[Any], view: Window) -> list[int]:
        """Order shapes: those that touch the view, then the others, as they come."""
        grid = self._cache.raster.grid.crop(view)
        seen_F = shapely.intersects(np.array(shapes_F, object), shapely.box(*grid.bounds))
        return [int(index) for index in np.argsort(~seen_F, kind="stable")]

    def _look_up(self, shape: Any, view: Window, check: Callable[[], None]) -> _Pixels:
        """Find pixels of a shape and compute their features."""
        cache = self._cache
        pixel_n = self._choose(pixels_of(shape, cache.raster.grid), view)
        rows_n, columns_n = np.divmod(pixel_n, cache.raster.grid.width)
        if len(pixel_n):
            for part in cache.missing_at(rows_n, columns_n):
                check()
                cache.compute(part, check)
        features_nD, valid_n = cache.at(rows_n, columns_n)
        return _Pixels(pixel_n[valid_n], features_nD[valid_n])

    def _choose(self, pixel_n: Indices, view: Window) -> Indices:
        """Choose some pixels at random, from few blocks, in the view if the shape reaches into it."""
        random, side = np.random.default_rng(self._seed), self._cache.side
        rows_n, columns_n = np.divmod(pixel_n, self._cache.raster.grid.width)
        inside_n = (rows_n >= view.row) & (rows_n < view.row + view.height)
        inside_n &= (columns_n >= view.column) & (columns_n < view.column + view.width)
        if inside_n.any():
            pixel_n, rows_n, columns_n = pixel_n[inside_n], rows_n[inside_n], columns_n[inside_n]
        block_n = rows_n // side * 2**31 + columns_n // side
        blocks = np.unique(block_n)
        if len(blocks) > MOST_BLOCKS:
            pixel_n = pixel_n[np.isin(block_n, random.choice(blocks, MOST_BLOCKS, replace=False))]
        return np.sort(random.permutation(pixel_n)[:MOST_A_SHAPE])

    def _join(self, drawing: Drawing, keys: list[bytes], waiting: int) -> Training:
        """Put the pixels of all known shapes together; those claimed by two classes are left out."""
        there = [index for index, key in enumerate(keys) if key in self._known and len(self._known[key].pixel_n)]
        names = sorted({drawing.classes_F[index] for index in there}, key=natural_order(drawing.classes_F))
        _refuse(drawing, names, waiting)
        if len(names) < 2:
            nothing = np.zeros((0, self._cache.width), np.float32)
            return Training(tuple(names), nothing, np.zeros(0, np.int64), len(there), waiting)
        parts = [self._known[keys[index]] for index in there]
        sizes = [len(part.pixel_n) for part in parts]
        class_N = np.repeat([names.index(drawing.classes_F[index]) for index in there], sizes)
        shape_N = np.repeat(there, sizes)
        pixel_N = np.concatenate([part.pixel_n for part in parts])
        features_ND = np.concatenate([part.features_nD for part in parts])
        kept_N = _agreed(pixel_N, class_N)
        if len(np.unique(class_N[kept_N])) < len(names):
            raise UserError(
                "A class has no pixel of its own: its polygons lie under those of another class. Move one of them.",
                "labels",
            )
        kept_N = kept_N[thin(class_N[kept_N], shape_N[kept_N], MOST_A_CLASS, self._seed)]
        return Training(tuple(names), features_ND[kept_N], class_N[kept_N], len(there), waiting)


def pixels_of(shape: Any, grid: Grid) -> Indices:
    """Return pixels of a shape, as row * width + column, in the order of the raster.

    A polygon has those whose centre it covers, or the one in its middle; lines and points have those they touch. Of a
    very large one, a lattice of pixels stands for all.
    """
    west, south, east, north = shapely.bounds(shape)
    if not np.isfinite([west, south, east, north]).all():
        return np.empty(0, np.int64)
    corners = [~grid.transform @ (x, y) for x in (west, east) for y in (south, north)]
    columns, rows = zip(*corners, strict=True)
    top, left = int(np.floor(min(rows))), int(np.floor(min(columns)))
    bottom, right = int(np.floor(max(rows))) + 1, int(np.floor(max(columns))) + 1
    window = Window(top, left, bottom - top, right - left).intersection(grid.window)
    if not window.height or not window.width:
        return np.empty(0, np.int64)
    step = max(1, int(np.ceil((window.height * window.width / MOST_BURNT) ** 0.5)))
    rows_n, columns_n = _burn(shape, grid, window, step)
    if not len(rows_n) and shapely.get_dimensions(shape) == 2:
        middle = shapely.point_on_surface(shape)
        column, row = (int(np.floor(at)) for at in ~grid.transform @ (shapely.get_x(middle), shapely.get_y(middle)))
        inside = 0 <= row < grid.height and 0 <= column < grid.width
        rows_n, columns_n = (np.array([at] if inside else [], np.int64) for at in (row, column))
    return rows_n * grid.width + columns_n


def _burn(shape: Any, grid: Grid, window: Window, step: int) -> tuple[Indices, Indices]:
    """Return rows and columns of the pixels in a window, or of each so-many-th one, which a shape covers."""
    middle = (step - 1) // 2
    centred = Window(window.row + middle, window.column + middle, window.height, window.width)
    transform = grid.crop(centred).transform
    shift = (1 - step) / 2  # so that the centre of a large cell is that of the pixel it stands for
    transform = transform @ Affine.translation(shift, shift) @ Affine.scale(step)
    height, width = (max(1, -(-(size - middle) // step)) for size in (window.height, window.width))
    burnt_hw = rasterize(
        [(shape, 1)],
        out_shape=(height, width),
        transform=transform,
        all_touched=shapely.get_dimensions(shape) < 2,
        dtype="uint8",
    )
    rows_n, columns_n = np.nonzero(burnt_hw)
    rows_n, columns_n = centred.row + rows_n * step, centred.column + columns_n * step
    inside_n = (rows_n < window.row + window.height) & (columns_n < window.column + window.width)
    return rows_n[inside_n].astype(np.int64), columns_n[inside_n].astype(np.int64)


def _agreed(pixel_N: Indices, class_N: Indices) -> Indices:
    """Return the indices of one claim for each pixel, of none where classes disagree."""
    order = np.argsort(pixel_N, kind="stable")
    first = np.flatnonzero(np.r_[True, np.diff(pixel_N[order]) != 0])
    ordered = class_N[order]
    agreed = np.minimum.reduceat(ordered, first) == np.maximum.reduceat(ordered, first)
    return np.asarray(order[first[agreed]])


def _refuse(drawing: Drawing, names: list[str], waiting: int) -> None:
    """Refuse labels that teach nothing."""
    if len(names) > MOST_CLASSES:
        raise UserError(
            f"There are {len(names)} classes; at most {MOST_CLASSES} are possible. Choose the attribute that holds the "
            "class under 'Class field'.",
            "class_field",
        )
    if len(names) > 1 or waiting:
        return
    if names:
        raise UserError(f"There is one class so far, '{names[0]}'. Draw a polygon of a second one.", "labels")
    raise UserError("No polygon has a valid pixel of the raster. Draw polygons on the raster.", "labels")
