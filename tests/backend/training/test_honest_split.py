"""Neighbouring pixels resemble each other: a split of pixels at random flatters, blocks and whole polygons do not.

The labels here mean nothing: each polygon has a class by lot.
"""

import numpy as np
import pytest
from affine import Affine
from rasterio.crs import CRS
from rsfm.raster.blocks import polygon_folds, split_blocks
from rsfm.raster.grid import Grid
from rsfm.raster.labels import Labels
from rsfm.training.finetuning import FOLDS
from rsfm.training.linear_fit import cross_validate, fit
from rsfm.training.scores import confusion, mean_iou
from scipy.ndimage import gaussian_filter

SIDE, SQUARE, BANDS, POLYGONS = 240, 8, 40, 48
GRID = Grid(CRS.from_epsg(32633), Affine(10, 0, 500_000, 0, -10, 5_100_000), SIDE, SIDE)
CHANCE = 1 / 3
"""Mean IoU of a guess between two classes of as many pixels."""
SEEDS = range(6)


def draw(seed):
    """A smooth raster, squares on it with a class by lot, and the features of their pixels."""
    random = np.random.default_rng(seed)
    pixels_CHW = gaussian_filter(random.normal(size=(BANDS, SIDE, SIDE)), (0, 8, 8))
    corners = np.stack(np.mgrid[10 : SIDE - 20 : 24, 10 : SIDE - 20 : 24], -1).reshape(-1, 2)
    corners = random.permutation(corners)[:POLYGONS]
    class_P = random.permutation(np.arange(POLYGONS) % 2)
    inside = np.mgrid[:SQUARE, :SQUARE].reshape(2, -1)
    rows_N, columns_N = (corners[:, :, None] + inside).transpose(1, 0, 2).reshape(2, -1)
    polygon_N = np.repeat(np.arange(POLYGONS), SQUARE**2)
    counts = tuple(np.bincount(class_P).tolist())
    labels = Labels(("a", "b"), ("#000000", "#ffffff"), rows_N, columns_N, class_P[polygon_N], polygon_N, counts, ())
    return labels, pixels_CHW[:, rows_N, columns_N].T


def score(features_ND, class_N, train_N, test_N):
    fitted = fit(features_ND[train_N], class_N[train_N], 2, 1.0)
    return mean_iou(confusion(class_N[test_N], fitted.predict(features_ND[test_N]), 2))


@pytest.fixture(scope="module")
def scores():
    """Mean IoU by each way to split, averaged over the seeds."""
    found = {"pixels": [], "blocks": [], "polygons": []}
    for seed in SEEDS:
        labels, features_ND = draw(seed)
        lot_N = np.random.default_rng(seed).random(len(labels.class_N)) < 0.5
        split = split_blocks(labels, GRID, 0, seed)
        folds = polygon_folds(labels, FOLDS, seed)
        found["pixels"].append(score(features_ND, labels.class_N, lot_N, ~lot_N))
        found["blocks"].append(score(features_ND, labels.class_N, split.train_N, split.test_N))
        found["polygons"].append(cross_validate(features_ND, labels.class_N, folds.fold_N, 2).mean_iou)
    return {name: float(np.mean(values)) for name, values in found.items()}


def test_pixels_at_random_find_meaning_in_labels_that_have_none(scores):
    assert scores["pixels"] > 0.8


def test_blocks_find_none(scores):
    assert abs(scores["blocks"] - CHANCE) < 0.1


def test_folds_of_polygons_find_none(scores):
    assert abs(scores["polygons"] - CHANCE) < 0.1
