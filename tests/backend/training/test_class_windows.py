"""Windows to learn classes from: balanced, repeatable, no label lost and none made up."""

import numpy as np
import pytest
import torch
from rsfm.blocks.normalisation import Normalisation
from rsfm.raster.labels import Labels
from rsfm.raster.reader import open_raster
from rsfm.training.class_windows import UNKNOWN, ClassWindows

SIDE = 32


@pytest.fixture
def raster(make_raster):
    """The first band of a pixel tells its row and column."""
    rows, columns = np.mgrid[:90, :110]
    pixels = np.stack([rows * 110 + columns + 1, np.full_like(rows, 7)]).astype("uint16")
    with open_raster(str(make_raster(pixels))) as opened:
        yield opened


def labels_of(pixels):
    """Make labels of (row, column, class, polygon), in the order of the raster."""
    row, column, value, polygon = np.array(sorted(pixels)).T
    names = tuple(f"class {number}" for number in range(int(value.max()) + 1))
    return Labels(names, ("#000000",) * len(names), row, column, value, polygon, (1,) * len(names), ())


def windows(raster, labels, **more):
    values = {"side": SIDE, "batch": 4, "zoom": 1.0, "balanced": True, "seed": 0, **more}
    return ClassWindows(raster, labels, Normalisation(2), **values)


SPARSE = [(5, 5, 0, 0), (5, 60, 0, 1), (80, 100, 1, 2)] + [
    (row, column, 0, 3) for row in range(40, 60) for column in range(20)
]


@pytest.mark.parametrize("zoom", [1.0, 3.0])
def test_pixels_and_labels_of_a_window_are_those_of_one_place(raster, zoom):
    made = windows(raster, labels_of(SPARSE), zoom=zoom, batch=24)
    class_at = {(row, column): value for row, column, value, _ in SPARSE}
    found = 0
    for step in range(4):
        given = made.batch(step)
        for pixels, classes in zip(given.pixels_BCHW, given.class_BHW, strict=True):
            known = classes != UNKNOWN
            assert known.any()
            if zoom != 1:
                continue
            for number, value in zip(pixels[0][known].tolist(), classes[known].tolist(), strict=True):
                assert class_at[divmod(int(number) - 1, 110)] == value
                found += 1
    assert found > 100 or zoom != 1


def test_a_single_labelled_pixel_survives_every_zoom_and_stays_one(raster):
    made = windows(raster, labels_of([(5, 5, 0, 0), (45, 50, 1, 1)]), zoom=4.0, batch=64)
    given = made.batch(0)
    assert ((given.class_BHW != UNKNOWN).sum(dim=(1, 2)) >= 1).all()
    assert ((given.class_BHW != UNKNOWN).sum(dim=(1, 2)) <= 2).all()
    sizes = {round(float(pixels[0].max() - pixels[0].min())) for pixels in given.pixels_BCHW}
    assert len(sizes) > 10  # they are zoomed


def test_classes_and_their_polygons_come_alike_however_many_pixels_they_have(raster):
    made = windows(raster, labels_of(SPARSE), batch=100)
    rare = sum((made.batch(step).class_BHW == 1).sum() > 0 for step in range(3))
    assert rare == 3
    share = np.mean([((window == 1).any()).item() for step in range(3) for window in made.batch(step).class_BHW])
    assert 0.35 < share < 0.65


def test_the_same_step_gives_the_same_windows_and_another_seed_others(raster):
    one, again, other = (windows(raster, labels_of(SPARSE), seed=seed, zoom=2.0).batch(3) for seed in (0, 0, 1))
    for mine, theirs in zip(one, again, strict=True):
        assert torch.equal(mine, theirs)
    assert not torch.equal(one.pixels_BCHW, other.pixels_BCHW)


def test_weights_balance_the_classes_as_they_are_seen(raster):
    made = windows(raster, labels_of(SPARSE), batch=200)
    given = made.batch(0)
    counts = torch.bincount(given.class_BHW[given.class_BHW >= 0], minlength=2)
    told = counts * made.weight_K
    assert told[0] / told[1] == pytest.approx(1, rel=0.35)
    assert counts[0] > 10 * counts[1]
    assert torch.equal(windows(raster, labels_of(SPARSE), balanced=False).weight_K, torch.ones(2))


def test_shares_make_the_sum_of_weighted_losses_a_weighted_mean(raster):
    made = windows(raster, labels_of(SPARSE))
    given = made.batch(1)
    known = given.class_BHW >= 0
    window, weights = known.nonzero()[:, 0], made.weight_K[given.class_BHW[known]]
    losses = torch.rand(len(window))
    total = (losses * weights * given.share_B[window]).sum() / len(given.pixels_BCHW)
    torch.testing.assert_close(total, (losses * weights).sum() / weights.sum())


def test_an_epoch_is_a_pass_over_the_squares_with_labels(raster):
    assert windows(raster, labels_of(SPARSE)).cells == len({(r // SIDE, c // SIDE) for r, c, _, _ in SPARSE})
