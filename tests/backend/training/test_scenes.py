"""Teaching classes of whole polygons: the right source wins, what cannot be judged is said, and a model comes out.

Fields of three kinds: two differ in stripes alone, one in brightness.
"""

import json

import numpy as np
import pyogrio.raw
import pytest
import rasterio
import shapely
from affine import Affine
from rsfm import model_file
from rsfm.raster.object_labels import read_labelled_objects
from rsfm.raster.reader import open_raster

from ..toy_model import run_job

SIDE, FIELD = 240, 24
TRANSFORM = Affine(10, 0, 500000, 0, -10, 5100000)
KINDS = ("bright", "calm", "striped")


def on_map(shape):
    return shapely.transform(shape, lambda at: at * [10, -10] + [500000, 5100000])


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A raster of 100 fields on a chessboard, and a layer with the kind of each."""
    folder = tmp_path_factory.mktemp("scenes")
    random = np.random.default_rng(0)
    kind_FF = random.integers(0, 3, (10, 10))
    rows, columns = np.mgrid[:SIDE, :SIDE]
    kind_HW = kind_FF[rows // FIELD, columns // FIELD]
    stripes_HW = np.where(columns % 4 < 2, -400, 400)
    shuffled_HW = np.where(random.random((SIDE, SIDE)) < 0.5, -60, 60)
    value_HW = 1500 + np.where(kind_HW == 2, stripes_HW, shuffled_HW) + np.where(kind_HW == 0, 300, 0)
    level_HW = np.kron(random.normal(0, 80, (10, 10)), np.ones((FIELD, FIELD)))
    pixels_CHW = (value_HW + level_HW + random.normal(0, 60, (2, SIDE, SIDE))).astype("uint16")
    raster = folder / "fields.tif"
    shape = {"count": 2, "height": SIDE, "width": SIDE, "dtype": "uint16", "nodata": 0}
    with rasterio.open(raster, "w", driver="GTiff", crs="EPSG:32633", transform=TRANSFORM, **shape) as target:
        target.write(pixels_CHW)
    fields = [
        (shapely.box(column * FIELD, row * FIELD, (column + 1) * FIELD, (row + 1) * FIELD), KINDS[kind_FF[row, column]])
        for row in range(10)
        for column in range(10)
    ]
    return {"folder": folder, "raster": raster, "fields": fields}


def write(path, fields, geometry="Unknown", **more):
    wkb = np.array([shapely.to_wkb(on_map(shape)) for shape, _ in fields], object)
    names = np.array([name for _, name in fields], object)
    columns = {"kind": names, **more}
    pyogrio.raw.write(path, wkb, list(columns.values()), list(columns), geometry_type=geometry, crs="EPSG:32633")
    return str(path)


def teach(work, name, labels, **config):
    outputs = run_job(
        work["folder"], "finetune_scenes", name, raster=str(work["raster"]), labels=labels, class_field="kind",
        device="cpu", **config,
    )  # fmt: skip
    return outputs / "model.safetensors", json.loads((outputs.parent / "run.json").read_text())["result"]


def classify(work, name, model, **config):
    return run_job(
        work["folder"], "classify", name, raster=str(work["raster"]), model=str(model), device="cpu", **config
    )


def accuracy_of(path, fields):
    meta, _, _, data = pyogrio.raw.read(path)
    found = dict(zip(meta["fields"], data, strict=True))["predicted"]
    return np.mean([mine == name for mine, (_, name) in zip(found, fields, strict=True)])


def test_fields_that_were_not_taught_get_their_class(work):
    labels = write(work["folder"] / "half.gpkg", work["fields"][::2])
    model, result = teach(work, "half", labels)
    scores = result["accuracy_polygons"]
    assert set(scores) == {"pixels", "texture", "untrained"}
    assert scores[result["chosen"]] > 0.85
    assert scores[result["chosen"]] == max(scores.values())
    held_out = write(work["folder"] / "rest.gpkg", work["fields"][1::2])
    outputs = classify(work, "rest", model, polygons=held_out)
    assert accuracy_of(outputs / "classified.gpkg", work["fields"][1::2]) > 0.85
    card = model_file.read_card(str(model))
    assert card.objects is not None
    assert card.objects.spread == result["spread"]
    assert [each.name for each in card.classes] == list(KINDS)


def test_in_turns_every_block_is_held_out_once(work):
    labels = write(work["folder"] / "half.gpkg", work["fields"][::2])
    model, result = teach(work, "turns", labels, folds=4)
    assert "dealt into 4 parts, and each was held out once" in result["split"]
    parts = pyogrio.raw.read(model.parent / "split.gpkg")[3][0]
    assert set(parts) == {"turn 1", "turn 2", "turn 3", "turn 4"}
    assert result["accuracy_blocks"][result["chosen"]] > 0.8


def test_spread_tells_stripes_apart_where_the_mean_of_pixels_cannot(work):
    calm_or_striped = [field for field in work["fields"] if field[1] != "bright"]
    labels = write(work["folder"] / "two.gpkg", calm_or_striped)
    _, result = teach(work, "two", labels, features="pixels")
    assert result["chosen"] == "pixels"
    assert result["spread"]
    assert result["accuracy_polygons"]["pixels"] > 0.95


def test_what_the_model_file_says_is_what_was_learnt(work):
    """All fields are taught and classified: the head in the file reads features as the fit did."""
    labels = write(work["folder"] / "all.gpkg", work["fields"])
    model, result = teach(work, "all", labels)
    outputs = classify(work, "all_map", model, polygons=labels)
    assert accuracy_of(outputs / "classified.gpkg", work["fields"]) >= result["accuracy_polygons"][result["chosen"]]
    assert sum(result["polygons"].values()) == 100
    assert sum(sum(row.values()) for row in result["confusion"].values()) == 100


def test_points_teach_squares_and_tiles_are_mapped_with_that_side(work):
    points = [(shape.centroid, name) for shape, name in work["fields"][::2]]
    labels = write(work["folder"] / "points.gpkg", points, "Point")
    model, result = teach(work, "points", labels, tile=FIELD * 10.0)
    assert model_file.read_card(str(model)).objects.tile == FIELD * 10
    outputs = classify(work, "tiles", model)
    with rasterio.open(outputs / "tiles.tif") as file:
        labels_RT = file.read(1)
    assert labels_RT.shape == (10, 10)
    right = [KINDS[label - 1] == name for label, (_, name) in zip(labels_RT.ravel(), work["fields"], strict=True)]
    assert np.mean(right) > 0.85
    assert result["accuracy_polygons"][result["chosen"]] > 0.8


def test_fewer_than_three_polygons_of_a_class_cannot_be_judged(work):
    chosen = [field for kind in KINDS for field in [each for each in work["fields"] if each[1] == kind][:2]]
    _, result = teach(work, "few", write(work["folder"] / "few.gpkg", chosen))
    assert set(result["mean_iou_polygons"].values()) == {None}
    assert "cannot be judged" in result["sentence"]
    assert not result["spread"]


def test_copies_of_a_polygon_never_stand_on_two_sides(work):
    """Each field is there three times, so leaving one copy out would be no test at all."""
    random = np.random.default_rng(1)
    shapes = [shape for shape, _ in work["fields"][:30]]
    fields = [(shape, str(random.choice(["a", "b"]))) for shape in shapes for _ in range(1)] * 3
    labels = write(work["folder"] / "copies.gpkg", fields)
    with open_raster(str(work["raster"])) as raster:
        labelled = read_labelled_objects(labels, "kind", raster, 0)
    assert len(set(labelled.group_N.tolist())) == 30
    for number in range(30):
        assert len(set(labelled.group_N[number::30].tolist())) == 1
    _, result = teach(work, "copies", labels)
    assert max(result["accuracy_polygons"].values()) < 0.75  # classes were drawn by lot


def test_parts_of_a_feature_are_one_polygon_and_neighbours_are_two(work):
    first, second, third = (shape for shape, _ in work["fields"][:3])
    fields = [(shapely.MultiPolygon([first, third]), "a"), (second, "b")]
    with open_raster(str(work["raster"])) as raster:
        labelled = read_labelled_objects(write(work["folder"] / "parts.gpkg", fields), "kind", raster, 0)
    assert len(labelled.shape_N) == 2
    assert len(set(labelled.group_N.tolist())) == 2
    assert shapely.area(labelled.shape_N).tolist() == pytest.approx([2 * FIELD**2, FIELD**2])
