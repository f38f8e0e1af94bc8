"""Polygons of the user's own to judge by: what they are compared with, what is left out, what is refused."""

import numpy as np
import pyogrio.raw
import pytest
import shapely
from rsfm.errors import UserError
from rsfm.raster.labels import read_labels
from rsfm.raster.own_validation import join, read_validation, split_by
from rsfm.raster.reader import open_raster

SIDE = 120


@pytest.fixture
def raster(make_raster):
    with open_raster(str(make_raster(np.full((2, SIDE, SIDE), 7, "uint8")))) as raster:
        yield raster


def write(path, squares):
    """Write squares of 10 px from (row, column, class)."""
    shapes = [shapely.box(column, row, column + 10, row + 10) for row, column, _ in squares]
    shapes = shapely.transform(np.array(shapes, object), lambda at: at * [10, -10] + [500000, 5100000])
    names = np.array([name for _, _, name in squares], object)
    pyogrio.raw.write(path, shapely.to_wkb(shapes), [names], ["class"], geometry_type="Polygon", crs="EPSG:32633")
    return str(path)


LEARNED = [(10, 10, "wood"), (10, 60, "field"), (60, 10, "wood")]


def split(tmp_path, raster, squares, learned=LEARNED):
    labels = read_labels(write(tmp_path / "labels.gpkg", learned), "class", raster)
    path = write(tmp_path / "check.gpkg", squares)
    others = read_validation(path, "class", raster, labels)
    return labels, others, split_by(labels, others, path, raster.grid)


def test_everything_drawn_is_learned_from_and_the_others_judge(tmp_path, raster):
    labels, others, found = split(tmp_path, raster, [(90, 90, "field"), (90, 40, "wood"), (40, 90, "wood")])
    joined = join(labels, others)
    assert found.train_N.sum() == 300
    assert found.train_N[:300].all()
    np.testing.assert_array_equal(found.test_N, ~found.train_N)
    assert (joined.rows_N[found.test_N] >= 40).all()
    wood = labels.names.index("wood")
    at_wood = (joined.columns_N < 80) | (joined.rows_N < 80)
    np.testing.assert_array_equal(joined.class_N[found.test_N] == wood, at_wood[found.test_N])
    assert found.sentences == ("The scores come from the 3 polygons of 'check.gpkg', your own.",)
    assert sorted(block.part for block in found.blocks) == ["test"] * 3 + ["train"] * 3


def test_pixels_in_polygons_that_are_learned_from_do_not_count_and_those_close_by_neither(tmp_path, raster):
    labels, others, found = split(tmp_path, raster, [(15, 10, "wood"), (90, 90, "field"), (90, 40, "wood")])
    assert "50 pixels of 'check.gpkg' lie in polygons that are learned from" in others.notes[-1]
    joined = join(labels, others)
    assert (joined.rows_N[found.test_N] >= 90).all()  # what is left of the first lies within the gap
    assert found.gap_px == 8
    assert len(others.class_N) == 250


def test_a_class_that_lies_close_by_alone_shrinks_the_gap_and_says_so(tmp_path, raster):
    labels, others, found = split(tmp_path, raster, [(13, 60, "field"), (90, 90, "wood")])
    joined = join(labels, others)
    assert 0 < found.gap_px < 8
    assert (joined.class_N[found.test_N] == labels.names.index("field")).any()
    assert "instead of 8 px" in found.sentences[1]


def test_a_class_without_a_polygon_to_judge_by_is_named(tmp_path, raster):
    _, _, found = split(tmp_path, raster, [(90, 90, "wood")])
    assert found.sentences == (
        "The scores come from the 1 polygon of 'check.gpkg', your own.",
        "'field' has no pixel in 'check.gpkg' and cannot be judged.",
    )


def test_a_class_that_is_not_learned_is_refused_by_name(tmp_path, raster):
    with pytest.raises(UserError, match=r"'check.gpkg' has polygons of 'marsh', and what is learned from has") as found:
        split(tmp_path, raster, [(90, 90, "marsh"), (90, 40, "wood")])
    assert found.value.field == "validation"


def test_the_same_polygons_as_are_learned_from_are_refused(tmp_path, raster):
    with pytest.raises(UserError, match=r"All pixels of 'check.gpkg' lie in polygons that are learned from") as found:
        split(tmp_path, raster, LEARNED[:2])
    assert found.value.field == "validation"


def test_polygons_elsewhere_are_refused_and_point_at_validation(tmp_path, raster):
    with pytest.raises(UserError, match="lie outside") as found:
        split(tmp_path, raster, [(5000, 5000, "wood")])
    assert found.value.field == "validation"
    assert "'Validation'" in str(found.value)
