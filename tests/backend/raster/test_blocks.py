import numpy as np
import pyogrio.raw
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS
from rsfm.raster.blocks import Block, polygon_folds, split_blocks, write_split
from rsfm.raster.grid import Window

from .label_cases import GRID, make_labels, rectangles, scattered


@settings(max_examples=80, deadline=None)
@given(rectangles=rectangles, block_m=st.sampled_from([0, 10, 150, 400, 5000]), seed=st.integers(0, 3))
def test_split_keeps_polygons_whole_and_classes_on_both_sides(rectangles, block_m, seed):
    labels = make_labels(rectangles)
    split = split_blocks(labels, GRID, block_m, seed)
    assert not (split.train_N & split.test_N).any()
    for polygon in np.unique(labels.polygon_N):
        own = labels.polygon_N == polygon
        assert split.train_N[own].all() or not split.train_N[own].any()
    for value, count in enumerate(labels.polygons):
        own = labels.class_N == value
        assert split.train_N[own].any()
        assert split.test_N[own].any() == (count > 1)


@settings(max_examples=40, deadline=None)
@given(rectangles=rectangles, seed=st.integers(0, 3))
def test_gap_is_what_the_slow_way_says(rectangles, seed):
    labels = make_labels(rectangles)
    split = split_blocks(labels, GRID, 0, seed)
    points_N2 = np.stack([labels.rows_N, labels.columns_N], 1).astype(float)
    train_N2 = points_N2[split.train_N]
    for at in np.flatnonzero(~split.train_N):
        nearest = np.sqrt(((train_N2 - points_N2[at]) ** 2).sum(1).min())
        assert split.test_N[at] == (split.gap_px == 0 or nearest > split.gap_px)


def test_polygons_of_a_block_go_to_one_side():
    labels = scattered()
    split = split_blocks(labels, GRID, 400, 0)
    assert split.block_px == 40
    parts = {}
    for polygon in np.unique(labels.polygon_N):
        own = labels.polygon_N == polygon
        block = (int(labels.rows_N[own].mean() // 40), int(labels.columns_N[own].mean() // 40))
        parts.setdefault(block, set()).add(bool(split.train_N[own].all()))
    assert all(len(sides) == 1 for sides in parts.values())
    assert {(block.window.row // 40, block.window.column // 40) for block in split.blocks} == set(parts)
    for block in split.blocks:
        assert parts[block.window.row // 40, block.window.column // 40] == {block.part == "train"}


@pytest.mark.parametrize("seed", range(5))
def test_classes_are_balanced_over_both_halves(seed):
    labels = scattered(seed, polygons=60)
    split = split_blocks(labels, GRID, 0, seed)
    for value in range(len(labels.names)):
        own = labels.class_N == value
        assert 0.35 <= split.train_N[own].mean() <= 0.65


def test_same_seed_gives_the_same_split_and_another_seed_another():
    labels = scattered()
    first, again, other = (split_blocks(labels, GRID, 0, seed) for seed in (1, 1, 2))
    assert (first.train_N == again.train_N).all()
    assert (first.train_N != other.train_N).any()


def test_chosen_block_is_an_eighth_of_the_labelled_extent():
    labels = make_labels([(20, 20, 4, 4, 0), (20, 140, 4, 4, 0), (176, 20, 4, 4, 1), (176, 140, 4, 4, 1)])
    split = split_blocks(labels, GRID, 0, 0)
    assert split.block_px == 160 // 8
    assert split.sentences == ("The scores come from blocks of 200 m that were held out.",)


def test_block_is_made_smaller_when_a_class_would_be_on_one_side_only_and_says_so():
    labels = make_labels([(20, 20, 4, 4, 0), (20, 60, 4, 4, 0), (60, 20, 4, 4, 1), (60, 60, 4, 4, 1)])
    split = split_blocks(labels, GRID, 1600, 0)
    assert split.block_px == 40
    assert split.sentences[0] == "Blocks of 1600 m would leave a class on one side only; blocks of 400 m are used."


def test_polygons_with_one_centre_are_dealt_out_one_by_one():
    labels = make_labels([(50, 50, 3, 3, 0), (48, 48, 7, 7, 0), (120, 50, 3, 3, 1), (50, 120, 3, 3, 1)])
    split = split_blocks(labels, GRID, 0, 0)
    assert split.block_px == 0
    assert split.gap_px < 8
    assert "one by one" in split.sentences[0]
    assert "instead of 8 px" in split.sentences[1]
    assert len(split.blocks) == 4


def test_class_with_a_single_polygon_is_learnt_from_and_named():
    labels = make_labels([(20, 20, 4, 4, 0), (20, 140, 4, 4, 0), (176, 20, 4, 4, 1)])
    split = split_blocks(labels, GRID, 0, 0)
    assert split.train_N[labels.class_N == 1].all()
    assert (
        split.sentences[1] == "'c1' has one polygon: it is learnt from and cannot be judged. Draw two more elsewhere."
    )


def test_labels_thinned_after_reading_are_split_too():
    labels = scattered()
    kept = labels.polygon_N != 3
    thinned = labels._replace(
        **{name: getattr(labels, name)[kept] for name in ("rows_N", "columns_N", "class_N", "polygon_N")}
    )
    split = split_blocks(thinned, GRID, 0, 0)
    assert len(split.train_N) == kept.sum()
    assert split.train_N.any()
    assert split.test_N.any()
    assert len(polygon_folds(thinned, 5, 0).fold_N) == kept.sum()


@settings(max_examples=60, deadline=None)
@given(rectangles=rectangles, wanted=st.integers(2, 8), seed=st.integers(0, 3))
def test_folds_keep_polygons_whole_and_hold_every_class(rectangles, wanted, seed):
    labels = make_labels(rectangles)
    folds = polygon_folds(labels, wanted, seed)
    if min(labels.polygons) < 3:
        assert folds.fold_N is None
        assert "cannot be judged" in folds.sentences[0]
        return
    assert folds.folds == min(wanted, *labels.polygons)
    assert set(folds.fold_N) == set(range(folds.folds))
    for polygon in np.unique(labels.polygon_N):
        assert len(set(folds.fold_N[labels.polygon_N == polygon])) == 1
    for value in range(len(labels.names)):
        assert set(folds.fold_N[labels.class_N == value]) == set(range(folds.folds))


def test_folds_are_of_like_size():
    labels = scattered(polygons=60)
    folds = polygon_folds(labels, 5, 0)
    for value in range(len(labels.names)):
        counts = np.bincount(folds.fold_N[labels.class_N == value], minlength=5)
        assert counts.max() - counts.min() <= 64


def test_written_split_draws_the_blocks_with_their_part(tmp_path):
    split = split_blocks(scattered(), GRID, 400, 0)
    write_split(tmp_path / "split.gpkg", split, GRID)
    meta, _, wkb, (part,) = pyogrio.raw.read(tmp_path / "split.gpkg")
    assert CRS.from_user_input(meta["crs"]) == GRID.crs
    assert list(part) == [block.part for block in split.blocks]
    assert {"train", "test"} == set(part)
    first: Block = split.blocks[0]
    west, south, east, north = shapely.bounds(shapely.from_wkb(wkb[0]))
    assert (west, north) == GRID.transform @ (first.window.column, first.window.row)
    assert (east - west, north - south) == (400, 400)
    assert [path.name for path in tmp_path.iterdir()] == ["split.gpkg"]


def test_block_at_the_edge_is_cut_to_the_raster():
    labels = make_labels([(0, 0, 4, 4, 0), (195, 195, 4, 4, 0), (0, 195, 4, 4, 1), (195, 0, 4, 4, 1)])
    split = split_blocks(labels, GRID, 1500, 0)
    assert {block.window for block in split.blocks} == {
        Window(0, 0, 150, 150),
        Window(0, 150, 150, 50),
        Window(150, 0, 50, 150),
        Window(150, 150, 50, 50),
    }
