"""Pixels of shapes: each shape is looked up once, what two classes claim is nobody's, each mistake has a word."""

import numpy as np
import pytest
import shapely
from rsfm.errors import UserError
from rsfm.labelling import labelled_shapes
from rsfm.labelling.feature_cache import FeatureCache
from rsfm.labelling.labelled_shapes import LabelledShapes, pixels_of
from rsfm.networks import FeatureNetwork
from rsfm.raster.grid import Window
from rsfm.raster.label_file import Drawing
from rsfm.raster.reader import open_raster
from rsfm.raster.statistics import band_statistics
from rsfm.sources.pixels import Pixels

from .scene import NORTH, PIXEL, WEST, write_scene


@pytest.fixture(scope="module")
def raster(tmp_path_factory):
    path = tmp_path_factory.mktemp("shapes") / "scene.tif"
    write_scene(path, 400)
    with open_raster(str(path)) as opened:
        yield opened


@pytest.fixture
def shapes(raster):
    statistics = band_statistics([raster], [raster.grid.window], 0)
    cache = FeatureCache(FeatureNetwork(Pixels(3), statistics), raster, "cpu")
    made = LabelledShapes(cache, 0)
    made.cache = cache
    return made


def box(row, column, side):
    west, north = WEST + column * PIXEL, NORTH - row * PIXEL
    return shapely.box(west, north - side * PIXEL, west + side * PIXEL, north)


def drawing(*labelled):
    boxes, classes = zip(*labelled, strict=True)
    return Drawing("labels", list(boxes), list(classes), {}, (), list(range(len(boxes))))


def collect(shapes, drawn, seconds=1e9):
    return shapes.collect(drawn, Window(0, 0, 400, 400), seconds, lambda: None)


def test_pixels_are_those_whose_centre_is_covered(raster):
    pixels = pixels_of(box(30, 40, 3), raster.grid)
    rows, columns = np.divmod(pixels, 400)
    assert sorted(set(rows)) == [30, 31, 32]
    assert sorted(set(columns)) == [40, 41, 42]
    assert len(pixels) == 9
    tiny = shapely.box(WEST + 401, NORTH - 309, WEST + 404, NORTH - 306)
    assert pixels_of(tiny, raster.grid).tolist() == [30 * 400 + 40]
    assert len(pixels_of(shapely.box(0, 0, 1, 1), raster.grid)) == 0


@pytest.mark.parametrize("most", [16, 50, 1000])
def test_a_large_shape_is_seen_as_a_lattice_within_it(raster, monkeypatch, most):
    every = set(pixels_of(box(101, 33, 60), raster.grid).tolist())
    monkeypatch.setattr(labelled_shapes, "MOST_BURNT", most)
    some = pixels_of(box(101, 33, 60), raster.grid)
    assert set(some.tolist()) <= every
    assert most / 4 <= len(some) <= most
    rows, columns = np.divmod(some, 400)
    assert np.ptp(rows) > 25
    assert np.ptp(columns) > 25


def test_an_edit_computes_the_edited_shape_alone_and_a_new_class_nothing(shapes, monkeypatch):
    looked = []
    plain = LabelledShapes._look_up
    monkeypatch.setattr(LabelledShapes, "_look_up", lambda *given: looked.append(given[1]) or plain(*given))
    first = [(box(50, 20, 9), "a"), (box(50, 120, 9), "b"), (box(50, 220, 9), "c")]
    assert collect(shapes, drawing(*first)).names == ("a", "b", "c")
    assert len(looked) == 3
    moved = [first[0], (box(50, 121, 9), "b"), first[2]]
    collect(shapes, drawing(*moved))
    assert len(looked) == 4
    training = collect(shapes, drawing(*moved[:2], (moved[2][0], "a")))
    assert len(looked) == 4
    assert training.names == ("a", "b")
    assert np.bincount(training.class_N).tolist() == [162, 81]


def test_pixels_that_two_classes_claim_are_nobodys(shapes):
    training = collect(shapes, drawing((box(50, 20, 10), "a"), (box(50, 25, 10), "b")))
    assert np.bincount(training.class_N).tolist() == [50, 50]


def test_shapes_that_take_long_wait_and_come_later_those_on_the_screen_first(shapes):
    many = [(box(30 + 30 * row, 30 * column, 5), "ab"[column % 2]) for row in range(10) for column in range(10)]
    view = Window(300, 0, 60, 60)
    counts, waits = [], True
    while waits:
        training = shapes.collect(drawing(*many), view, 0.0, lambda: None)
        counts.append(training.shapes)
        waits = training.waiting > 0
        if len(counts) == 1:
            (known,) = shapes._known.values()
            row, column = divmod(int(known.pixel_n[0]), 400)
            assert row >= 300
            assert column < 60
    assert counts == sorted(counts)
    assert counts[-1] == 100


@pytest.mark.parametrize(
    ("labelled", "sentence"),
    [
        ([(box(50, 20, 9), "a")], "There is one class so far, 'a'"),
        ([(shapely.box(0, 0, 1, 1), "a"), (box(50, 20, 9), "b")], "There is one class so far, 'b'"),
        ([(box(2, 20, 9), "a"), (box(2, 60, 9), "b")], "No polygon has a valid pixel"),
        ([(box(50, 20, 9), "a"), (box(50, 20, 9), "b"), (box(50, 60, 9), "b")], "lie under those of another"),
        ([(box(50, 20, 2), f"c{number}") for number in range(300)], "300 classes; at most 255"),
    ],
)
def test_labels_that_teach_nothing_have_a_sentence(shapes, labelled, sentence):
    with pytest.raises(UserError, match=sentence):
        collect(shapes, drawing(*labelled))
