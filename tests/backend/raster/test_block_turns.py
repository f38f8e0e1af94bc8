import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rsfm.raster.block_turns import split_in_turns

from .label_cases import GRID, make_labels, rectangles, scattered


@settings(max_examples=60, deadline=None)
@given(rectangles=rectangles, block_m=st.sampled_from([0, 150, 400]), turns=st.integers(2, 7), seed=st.integers(0, 3))
def test_each_polygon_is_held_out_once_as_a_whole_and_every_class_is_learnt_in_every_turn(
    rectangles, block_m, turns, seed
):
    labels = make_labels(rectangles)
    splits = split_in_turns(labels, GRID, block_m, turns, seed)
    assert 1 <= len(splits) <= turns
    held_out = np.zeros(len(labels.class_N), int)
    for split in splits:
        assert not (split.train_N & split.test_N).any()
        held_out += ~split.train_N
        for value in range(len(labels.names)):
            assert split.train_N[labels.class_N == value].any()
    assert held_out.max() <= 1
    for polygon in np.unique(labels.polygon_N):
        assert len(set(held_out[labels.polygon_N == polygon])) == 1
    tested_N = np.any([split.test_N for split in splits], axis=0)
    for value, count in enumerate(labels.polygons):
        assert tested_N[labels.class_N == value].any() == (count > 1)


@settings(max_examples=25, deadline=None)
@given(rectangles=rectangles, seed=st.integers(0, 3))
def test_the_gap_of_each_turn_is_what_the_slow_way_says(rectangles, seed):
    labels = make_labels(rectangles)
    points_N2 = np.stack([labels.rows_N, labels.columns_N], 1).astype(float)
    for split in split_in_turns(labels, GRID, 0, 3, seed):
        train_N2 = points_N2[split.train_N]
        for at in np.flatnonzero(~split.train_N):
            nearest = np.sqrt(((train_N2 - points_N2[at]) ** 2).sum(1).min())
            assert split.test_N[at] == (split.gap_px == 0 or nearest > split.gap_px)


def test_polygons_of_a_block_are_held_out_together_and_drawn_with_their_turn():
    labels = scattered(polygons=60)
    splits = split_in_turns(labels, GRID, 400, 4, 0)
    assert len(splits) == 4
    drawn = {(block.window.row, block.window.column): block.part for block in splits[0].blocks}
    assert set(drawn.values()) == {"turn 1", "turn 2", "turn 3", "turn 4"}
    for polygon in np.unique(labels.polygon_N):
        own = labels.polygon_N == polygon
        turn = next(at for at, split in enumerate(splits) if not split.train_N[own].any())
        corner = tuple(int(places[own].mean() // 40) * 40 for places in (labels.rows_N, labels.columns_N))
        assert drawn[corner] == f"turn {turn + 1}"
    assert all(split.blocks == splits[0].blocks for split in splits)
    assert splits[0].sentences == (
        "The scores come from blocks of 400 m that were held out.",
        "They were dealt into 4 parts, and each was held out once.",
    )


@pytest.mark.parametrize("seed", range(5))
def test_turns_hold_out_about_as_much_of_each_class(seed):
    labels = scattered(seed, polygons=60)
    splits = split_in_turns(labels, GRID, 0, 5, seed)
    for value in range(len(labels.names)):
        own = labels.class_N == value
        shares = [1 - split.train_N[own].mean() for split in splits]
        assert max(shares) - min(shares) <= 0.15


def test_classes_of_one_polygon_each_are_learnt_from_and_never_held_out():
    labels = make_labels([(20, 20, 4, 4, 0), (20, 140, 4, 4, 1)])
    (split,) = split_in_turns(labels, GRID, 0, 4, 0)
    assert split.train_N.all()
    assert not split.test_N.any()
    assert "has one polygon" in split.sentences[-1]


def test_same_seed_gives_the_same_turns_and_another_seed_others():
    labels = scattered()
    first, again, other = (split_in_turns(labels, GRID, 0, 3, seed) for seed in (1, 1, 2))
    assert all((one.train_N == two.train_N).all() for one, two in zip(first, again, strict=True))
    assert any((one.train_N != two.train_N).any() for one, two in zip(first, other, strict=True))
