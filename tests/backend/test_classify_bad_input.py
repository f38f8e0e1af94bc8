"""What cannot be classified, or learnt, is refused in a sentence that says what to do."""

import numpy as np
import pyogrio.raw
import pytest
import shapely

from .test_bad_input import good, inside, refused, write_labels  # noqa: F401
from .test_classification import make_object_model
from .toy_model import make_model


@pytest.fixture
def model(tmp_path, good):
    return make_model(tmp_path / "model.safetensors", good)


def test_layer_of_another_place(tmp_path, monkeypatch, capsys, good, model):
    layer = write_labels(tmp_path / "far.gpkg", [inside("a", 5000, 10), inside("b", 5000, 40)])
    sentence = refused(
        tmp_path, monkeypatch, capsys, "classify", raster=str(good), model=str(model), polygons=str(layer)
    )
    assert "2 lie outside the raster" in sentence
    assert "Polygons" in sentence


def test_layer_of_points(tmp_path, monkeypatch, capsys, good, model):
    layer = tmp_path / "points.gpkg"
    wkb = shapely.to_wkb([shapely.Point(500100, 5099900)])
    pyogrio.raw.write(layer, wkb, [], [], geometry_type="Point", crs="EPSG:32633")
    sentence = refused(
        tmp_path, monkeypatch, capsys, "classify", raster=str(good), model=str(model), polygons=str(layer)
    )
    assert "1 is not a polygon" in sentence


def test_layer_that_is_no_vector_file(tmp_path, monkeypatch, capsys, good, model):
    sentence = refused(
        tmp_path, monkeypatch, capsys, "classify", raster=str(good), model=str(model), polygons=str(good)
    )
    assert "good.tif" in sentence
    assert "Polygons" in sentence


@pytest.mark.parametrize(("tile", "unit", "words"), [(0, "metres", "Side of tiles"), (4, "metres", "at least 2 px")])
def test_side_of_tiles_that_cannot_be(tmp_path, monkeypatch, capsys, good, model, tile, unit, words):
    config = {"raster": str(good), "model": str(model), "tile": tile, "unit": unit}
    assert words in refused(tmp_path, monkeypatch, capsys, "classify", **config)


def test_model_of_polygons_maps_no_pixels(tmp_path, monkeypatch, capsys, good, model):
    whole = make_object_model(tmp_path / "whole.safetensors", model, True)
    sentence = refused(tmp_path, monkeypatch, capsys, "segment", raster=str(good), model=str(whole))
    assert "Classify Polygons or Tiles" in sentence


def test_points_without_a_side(tmp_path, monkeypatch, capsys, good):
    labels = tmp_path / "points.gpkg"
    wkb = shapely.to_wkb([shapely.Point(500100 + 100 * at, 5099900) for at in range(4)])
    names = np.array(["a", "b", "a", "b"], object)
    pyogrio.raw.write(labels, wkb, [names], ["class"], geometry_type="Point", crs="EPSG:32633")
    sentence = refused(tmp_path, monkeypatch, capsys, "finetune_scenes", raster=str(good), labels=str(labels))
    assert "Side of tiles" in sentence


@pytest.mark.parametrize(
    ("boxes", "words"),
    [
        ([inside("a", 10, 10), inside("a", 40, 40)], "learning needs two"),
        ([inside("a", 5000, 10), inside("b", 5000, 40)], "lie outside"),
    ],
)
def test_polygons_that_cannot_be_learnt(tmp_path, monkeypatch, capsys, good, boxes, words):
    labels = write_labels(tmp_path / "labels.gpkg", boxes)
    assert words in refused(tmp_path, monkeypatch, capsys, "finetune_scenes", raster=str(good), labels=str(labels))
