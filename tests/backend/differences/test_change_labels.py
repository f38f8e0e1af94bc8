"""What was drawn about two dates: how it is burnt, split, learned from, and what is refused."""

import numpy as np
import pytest
import torch
from rsfm.differences.change_labels import IGNORED, read_change_labels
from rsfm.differences.change_network import beside, new_change_network
from rsfm.differences.change_split import split_changes
from rsfm.differences.change_windows import ChangeWindows
from rsfm.differences.ir_mad_baseline import f1_above
from rsfm.differences.teaching import ChangeLearner
from rsfm.differences.two_dates import open_dates
from rsfm.errors import UserError
from rsfm.jobs.finetune_change import FinetuneChangeConfig
from rsfm.model_file import build_encoder
from rsfm.raster.blocks import GAP
from rsfm.raster.grid import Window
from rsfm.training.step import split
from sklearn.metrics import f1_score

from .conftest import as_they_are
from .pair_case import GSD, NORTH, SIDE, SQUARES, WEST, make_places, on_map, truth, write_polygons

EVERYTHING = Window(0, 0, SIDE, SIDE)


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    return make_places(tmp_path_factory.mktemp("labels"))


def drawn(places, **values):
    given = {"before": str(places.before), "after": str(places.after), "changes": str(places.changes)}
    config = FinetuneChangeConfig(**{**given, "complete": places.whole, **values})
    with open_dates(config, None) as dates:
        return read_change_labels(config, dates.grid, dates.pair.window), dates.grid, dates.pair.window


def test_an_area_in_which_all_is_drawn_says_that_the_rest_did_not_change(places):
    labels, _, _ = drawn(places)
    np.testing.assert_array_equal(labels.read(EVERYTHING), truth())
    part = Window(-5, 20, 60, 90)
    target_HW = labels.read(part)
    np.testing.assert_array_equal(target_HW[5:], truth()[:55, 20:110])
    assert (target_HW[:5] == IGNORED).all()


def test_without_such_an_area_only_polygons_count_and_contradictions_count_for_nothing(places, tmp_path):
    names = ["wall", "roof", "Unchanged", "wall"]
    shapes = [on_map(0, 0, 10), on_map(0, 20, 10), on_map(40, 0, 30), on_map(5, 25, 10)]
    several = write_polygons(tmp_path / "kinds.gpkg", shapes, names)
    quiet = write_polygons(tmp_path / "quiet.gpkg", [on_map(2, 0, 4)])
    labels, _, _ = drawn(
        places, changes=str(several), class_field="class", complete=None, unchanged=str(quiet)
    )  # fmt: skip
    assert labels.names == ("roof", "wall")
    target_HW = labels.read(EVERYTHING)
    assert (target_HW[40:70, :30] == 0).all()
    assert (target_HW[6:10, 0:10] == 2).all()
    assert (target_HW[:5, 20:30] == 1).all()
    assert (target_HW[2:6, 0:4] == IGNORED).all()  # a change where nothing is said to have changed
    assert (target_HW[5:10, 25:30] == IGNORED).all()  # two kinds
    assert (target_HW[80:] == IGNORED).all()


def test_polygons_with_classes_of_both_dates_tell_what_changed_and_what_did_not(places, tmp_path):
    earlier = write_polygons(
        tmp_path / "earlier.gpkg", [on_map(0, 0, 40), on_map(50, 0, 20), on_map(90, 0, 20)], ["wood", "wood", "field"]
    )
    later = write_polygons(tmp_path / "later.gpkg", [on_map(0, 0, 10), on_map(20, 0, 40)], ["roof", "wood"])
    labels, _, _ = drawn(places, changes="", complete=None, before_classes=str(earlier), after_classes=str(later))
    assert labels.names == ("wood \u2192 roof",)
    target_HW = labels.read(EVERYTHING)
    assert (target_HW[:10, :10] == 1).all()
    assert (target_HW[20:40, :40] == 0).all()
    assert (target_HW[50:60, :20] == 0).all()
    assert (target_HW == 1).sum() == 100
    assert (target_HW == 0).sum() == 800 + 200
    for values, field in (({}, "after_classes"), ({"before_classes": ""}, "changes")):
        given = {"changes": "", "before_classes": str(later), "after_classes": str(later), **values}
        with pytest.raises(UserError) as caught:
            drawn(places, **given)
        assert caught.value.field == field


def test_polygons_stay_whole_and_what_is_learned_keeps_away_from_what_is_held_out(places):
    labelled = split_changes(*drawn(places), 60, seed=1)
    train_HW, test_HW = labelled.target(EVERYTHING, "train"), labelled.target(EVERYTHING, "test")
    assert not ((train_HW != IGNORED) & (test_HW != IGNORED)).any()
    for row, column in SQUARES:
        square = slice(row, row + 12), slice(column, column + 12)
        parts = [(target_HW[square] == 1).all() for target_HW in (train_HW, test_HW)]
        assert sum(parts) == 1
        other_HW = (test_HW if parts[0] else train_HW)[square]
        assert (other_HW == IGNORED).all()
    held_HW = labelled.split.held_out(EVERYTHING)
    rows, columns = np.nonzero(train_HW == 0)
    near_HW = np.pad(held_HW, GAP)
    for row, column in list(zip(rows, columns, strict=True))[::37]:
        assert not near_HW[row : row + 2 * GAP + 1, column : column + 2 * GAP + 1].any()
    assert 2 <= len(labelled.held) <= 12
    assert f"{len(labelled.held)} of {len(SQUARES)} changes" in labelled.sentence
    window = Window(33, 47, 80, 71)
    np.testing.assert_array_equal(labelled.target(window, "train"), train_HW[33:113, 47:118])


def windows_of(places, zoom=1.0, side=64):
    labels, grid, overlap = drawn(places)
    context = open_dates(as_they_are(places.before, places.after), None)
    dates = context.__enter__()
    labelled = split_changes(labels, grid, overlap, 60, seed=1)
    return ChangeWindows(dates, beside(*dates.statistics(None)), labelled, side, 4, zoom, seed=5)


def test_windows_of_a_step_are_the_same_again_and_learn_from_both_classes_but_not_from_nodata(places):
    windows = windows_of(places, zoom=1.5)
    one, again, other = windows.batch(3), windows.batch(3), windows.batch(4)
    assert all(torch.equal(mine, yours) for mine, yours in zip(one, again, strict=True))
    assert not torch.equal(one.pixels_BCHW, other.pixels_BCHW)
    assert one.pixels_BCHW.shape == (4, 6, 64, 64)
    assert {0, 1} <= set(one.target_BHW.unique().tolist()) <= {0, 1, IGNORED}
    plain = windows_of(places).batch(0)
    missing_BHW = (plain.pixels_BCHW == 0).all(1)
    assert (plain.target_BHW[missing_BHW] == IGNORED).all()


def test_what_is_not_labelled_changes_no_loss_and_parts_of_a_batch_add_up_to_the_whole(places):
    torch.manual_seed(0)
    encoder = build_encoder({"name": "conv_small", "width": 32}, 3)
    learner = ChangeLearner(new_change_network({"name": "bit", "width": 8}, encoder, 2), frozen=False).eval()
    sample = windows_of(places).batch(0)
    whole = learner.loss(sample, 0.0).total
    whole.backward()
    gradient = learner.network.head.bit.reduce.weight.grad.clone()
    parts = [learner.loss(part, 0.0).total * len(part.pixels_BCHW) / 4 for part in split(sample, 3)]
    torch.testing.assert_close(sum(parts), whole)
    logits = torch.randn(4, 2, 64, 64, requires_grad=True)
    learner.network.forward = lambda before, after: logits
    learner.loss(sample, 0.0).total.backward()
    unsaid = (sample.target_BHW == IGNORED)[:, None].expand_as(logits)
    assert unsaid.any()
    assert not logits.grad[unsaid].any()
    assert logits.grad[~unsaid].all()
    assert gradient.abs().max() > 0


def test_f1_of_every_threshold_is_what_counting_gives():
    random = np.random.default_rng(0)
    values_N, changed_N = random.normal(size=500), random.random(500) < 0.3
    thresholds_T = np.sort(random.normal(size=20))
    bins_N = np.searchsorted(thresholds_T, values_N, side="left")
    counts_2T = np.stack([np.bincount(bins_N[changed_N == kind], minlength=21) for kind in (False, True)])
    expected = [f1_score(changed_N, values_N > threshold, zero_division=0) for threshold in thresholds_T]
    np.testing.assert_allclose(f1_above(counts_2T), expected)


def test_what_cannot_be_learned_from_says_why(places, tmp_path):
    far = write_polygons(tmp_path / "far.gpkg", [on_map(9000, 9000, 10)])
    alone = write_polygons(tmp_path / "alone.gpkg", [on_map(40, 0, 30)], ["unchanged"])
    points = write_polygons(tmp_path / "points.gpkg", [on_map(3, 3, 9).centroid], kind="Point")
    outside = f"{WEST + 9000},{NORTH},{WEST + 9000 + GSD},{NORTH + GSD}"
    for values, said, field in (
        ({"changes": str(far)}, "overlap", "changes"),
        ({"complete": None}, "Nothing says where nothing changed", "complete"),
        ({"changes": str(alone), "class_field": "class"}, "names 0 kinds", "class_field"),
        ({"changes": str(points)}, "no polygon", "changes"),
        ({"class_field": "colour"}, "no attribute 'colour'", "class_field"),
        ({"complete": outside}, "outside", "complete"),
    ):
        with pytest.raises(UserError, match=said) as caught:
            drawn(places, **values)
        assert caught.value.field == field
