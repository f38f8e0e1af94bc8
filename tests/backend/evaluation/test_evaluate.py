"""Evaluation of maps and models: counts equal slow ones, unlabelled pixels mean nothing, bad input gets a sentence."""

import json

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from rasterio.transform import from_origin
from rsfm import model_file, runs
from rsfm.errors import UserError
from rsfm.evaluation.class_names import meet, names_of_tag, parse_names
from rsfm.evaluation.judging import evaluate
from rsfm.evaluation.tally import Tally, polygon_intervals, summary
from rsfm.jobs.evaluate import EvaluateConfig
from rsfm.runs import Run
from rsfm.training.scores import kappa, mean_f1
from sklearn import metrics

from tests.backend.toy_model import make_model, run_job

NAMES = "1=land, 2=water, 3=bare"


def result(folder, name):
    return json.loads((folder / name / "run.json").read_text())["result"]


def shown(folder, name):
    return json.loads((folder / name / "shown" / "evaluation.json").read_text())


def squares(path, boxes, field="class", crs="EPSG:32633"):
    """Write squares given as row, column, side and class on a grid of 10 m from 500000, 5100000."""
    shapes = [
        shapely.box(
            500000 + column * 10, 5100000 - (row + side) * 10, 500000 + (column + side) * 10, 5100000 - row * 10
        )
        for row, column, side, _ in boxes
    ]
    classes = np.array([name for *_, name in boxes], object)
    pyogrio.raw.write(
        path, np.array(shapely.to_wkb(shapes), object), field_data=[classes], fields=np.array([field], object),
        geometry_type="Polygon", crs=crs,
    )  # fmt: skip
    return str(path)


@pytest.fixture
def made_map(make_raster):
    random = np.random.default_rng(0)
    map_HW = random.integers(1, 4, (700, 200)).astype("uint8")
    map_HW[:50, :50] = 255
    return map_HW, str(make_raster(map_HW[None], "map.tif", nodata=255))


def test_counts_of_a_map_equal_slow_ones_and_the_layer_shows_each(tmp_path, made_map):
    map_HW, path = made_map
    truth = [(60, 10, 30, "water"), (600, 120, 40, "land"), (300, 50, 9, "bare"), (20, 30, 40, "water")]
    labels = squares(tmp_path / "labels.gpkg", truth)
    made = run_job(tmp_path, "evaluate", "one", raster=path, labels=labels, class_names=NAMES)
    numbers = {"land": 1, "water": 2, "bare": 3}
    truth_HW = np.zeros(map_HW.shape, int)
    for row, column, side, name in truth:
        truth_HW[row : row + side, column : column + side] = numbers[name]
    known_HW = (truth_HW > 0) & (map_HW != 255)
    expected = metrics.cohen_kappa_score(truth_HW[known_HW], map_HW[known_HW])
    found = result(tmp_path, "one")
    assert found["kappa"] == pytest.approx(expected, abs=1e-4)
    assert found["accuracy"] == pytest.approx((truth_HW == map_HW)[known_HW].mean(), abs=1e-4)
    counts = shown(tmp_path, "one")["counts"]
    for name, number in numbers.items():
        row = [int(((truth_HW == number) & (map_HW == other) & known_HW).sum()) for other in numbers.values()]
        assert [counts[name][other] for other in numbers] == row
    with rasterio.open(made / "errors.tif") as layer:
        rows, columns = layer.height, layer.width
        top, left = round((5100000 - layer.transform.f) / 10), round((layer.transform.c - 500000) / 10)
        errors_HW = layer.read(1)
    window = (slice(top, top + rows), slice(left, left + columns))
    expected_HW = np.where(known_HW, np.where(truth_HW == map_HW, 1, 2), 255)[window]
    assert np.array_equal(errors_HW, expected_HW)
    assert known_HW.sum() == (errors_HW != 255).sum()
    report = (tmp_path / "one" / "report.html").read_text(encoding="utf-8")
    assert "How good it is" in report
    assert "data:image/png;base64" in report


def test_pixels_without_a_label_can_be_anything(tmp_path, made_map, make_raster):
    map_HW, path = made_map
    boxes = [(60, 10, 30, "water"), (600, 120, 40, "land")]
    labels = squares(tmp_path / "labels.gpkg", boxes)
    other_HW = np.random.default_rng(9).integers(1, 4, map_HW.shape).astype("uint8")
    for row, column, side, _ in boxes:
        other_HW[row : row + side, column : column + side] = map_HW[row : row + side, column : column + side]
    other = str(make_raster(other_HW[None], "other.tif", nodata=255))
    for name, raster in (("one", path), ("two", other)):
        run_job(tmp_path, "evaluate", name, raster=raster, labels=labels, class_names=NAMES)
    assert result(tmp_path, "one") == result(tmp_path, "two")


def test_raster_of_the_truth_on_another_grid_is_matched_by_place_and_name(tmp_path, made_map, make_raster):
    map_HW, path = made_map
    coarse_HW = np.random.default_rng(3).choice([0, 10, 20], (400, 120)).astype("int16")
    transform = from_origin(500000 - 60, 5100000 + 40, 20, 20)
    truth = str(make_raster(coarse_HW[None], "truth.tif", nodata=0, transform=transform))
    config = {"truth": truth, "truth_names": "10=water, 20=land", "class_names": NAMES}
    run_job(tmp_path, "evaluate", "one", raster=path, **config)
    rows, columns = (np.arange(700) * 10 + 5 + 40) // 20, (np.arange(200) * 10 + 5 + 60) // 20
    truth_HW = coarse_HW[rows][:, columns]
    known_HW = (truth_HW > 0) & (map_HW != 255)
    right_HW = np.where(truth_HW == 10, 2, 1) == map_HW
    assert result(tmp_path, "one")["accuracy"] == pytest.approx(right_HW[known_HW].mean(), abs=1e-4)
    assert sum(sum(row.values()) for row in shown(tmp_path, "one")["counts"].values()) == known_HW.sum()
    area = f"{500000},{5100000 - 3000},{500000 + 1000},{5100000 - 1000}"
    run_job(tmp_path, "evaluate", "part", raster=path, area=area, **config)
    part = (slice(100, 300), slice(0, 100))
    assert result(tmp_path, "part")["accuracy"] == pytest.approx(right_HW[part][known_HW[part]].mean(), abs=1e-4)


def test_model_is_judged_as_its_map_is_and_its_confidence_too(tmp_path, noise_raster):
    model = str(make_model(tmp_path / "model.safetensors", noise_raster))
    boxes = [(10, 10, 20, "one"), (50, 40, 30, "two"), (60, 5, 12, "three")]
    labels = squares(tmp_path / "labels.gpkg", boxes)
    common = {"raster": str(noise_raster), "model": model, "device": "cpu"}
    run_job(tmp_path, "evaluate", "model", labels=labels, **common)
    made = run_job(tmp_path, "segment", "segment", **common)
    run_job(tmp_path, "evaluate", "map", raster=str(made / "segmentation.tif"), labels=labels)
    by_model, by_map = result(tmp_path, "model"), result(tmp_path, "map")
    assert by_model["calibration_error"] is not None
    assert by_map["calibration_error"] is None
    assert {**by_model, "calibration_error": None} == by_map
    truth_HW = np.zeros((96, 96), "uint8")
    for number, (row, column, side, _) in enumerate(boxes, 1):
        truth_HW[row : row + side, column : column + side] = number
    with rasterio.open(noise_raster) as file:
        profile = {**file.profile, "count": 1, "dtype": "uint8", "nodata": 0}
    with rasterio.open(tmp_path / "truth.tif", "w", **profile) as target:
        target.write(truth_HW[None])
    names = "1=one, 2=two, 3=three"
    run_job(tmp_path, "evaluate", "whole", truth=str(tmp_path / "truth.tif"), truth_names=names, **common)
    whole = result(tmp_path, "whole")
    assert whole["calibration_error"] == pytest.approx(by_model["calibration_error"], abs=2e-4)
    assert whole["accuracy"] == by_model["accuracy"]


def test_what_a_model_learnt_from_is_left_out_of_its_scores_and_of_its_maps(tmp_path, noise_raster):
    old = [(10, 10, 20, "one"), (50, 40, 30, "two")]
    learned = squares(tmp_path / "learned.gpkg", old)
    model = tmp_path / "model.safetensors"
    made = model_file.load(str(make_model(model, noise_raster)))
    card = made.card.model_copy(update={"provenance": {"labels": learned}})
    model_file.save(model, card, made.tensors)
    labels = squares(tmp_path / "labels.gpkg", [*old, (80, 5, 10, "one"), (5, 60, 10, "three")])
    common = {"raster": str(noise_raster), "model": str(model), "device": "cpu"}
    mapped = run_job(tmp_path, "segment", "segment", **common) / "segmentation.tif"
    for name, config in (("model", common), ("map", {"raster": str(mapped)})):
        run_job(tmp_path, "evaluate", name, labels=labels, **config)
        assert sum(sum(row.values()) for row in shown(tmp_path, name)["counts"].values()) == 200
        assert "were left out" in (tmp_path / name / "events.jsonl").read_text()
    run_job(tmp_path, "evaluate", "same", labels=learned, **common)
    assert "learnt from these very labels" in (tmp_path / "same" / "events.jsonl").read_text()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"class_names": "1=a, 2=b"}, "they share none"),
        ({"class_names": "water"}, "was not understood"),
        ({"area": "500000,5099900,500050,5099990"}, "No labelled pixel"),
    ],
)
def test_what_cannot_be_judged_gets_a_sentence(tmp_path, made_map, change, said):
    labels = squares(tmp_path / "labels.gpkg", [(60, 10, 30, "water"), (600, 120, 40, "land")])
    config = EvaluateConfig(**{"raster": made_map[1], "labels": labels, "class_names": NAMES, **change})
    with pytest.raises(UserError, match=said):
        evaluate(config, Run(runs.create(tmp_path, "evaluate", "Evaluate", config.model_dump())))


def test_one_truth_is_wanted():
    with pytest.raises(ValueError, match="one of both"):
        EvaluateConfig(raster="a.tif")


def test_names_are_read_as_they_are_written():
    assert names_of_tag("1 water; 2 dry; bare land; 10 forest") == {1: "water", 2: "dry; bare land", 10: "forest"}
    assert parse_names("1=water; -2 = dry land,") == {1: "water", -2: "dry land"}


def test_classes_of_map_and_truth_meet_by_name():
    classes = meet(("b", "x"), {1: "a", 2: "b"}, [1, 2, 9], {}, "map")
    assert classes.names == ("b", "x", "9", "a")
    assert classes.of_map(np.array([[2, 1], [9, 5]])).tolist() == [[0, 3], [2, -1]]
    assert classes.unknown == ("x",)


def test_a_tally_in_pieces_is_the_tally_of_all_and_its_error_that_of_bins():
    random = np.random.default_rng(0)
    truth_N, predicted_N = random.integers(-1, 4, 5000), random.integers(0, 4, 5000)
    sure_N = random.random(5000).astype("float32")
    whole, parts = Tally(4), Tally(4)
    whole.add(truth_N, predicted_N, sure_N)
    for part in np.array_split(np.arange(5000), 7):
        parts.add(truth_N[part], predicted_N[part], sure_N[part])
    assert np.array_equal(whole.counts_KK, parts.counts_KK)
    assert summary(whole) == summary(parts)
    known_N = truth_N >= 0
    right_N = (truth_N == predicted_N)[known_N]
    bin_N = np.digitize(sure_N[known_N], np.linspace(0, 1, 16)[1:-1], right=True)
    expected = sum(
        abs(right_N[bin_N == at].mean() - sure_N[known_N][bin_N == at].mean()) * (bin_N == at).mean()
        for at in range(15)
    )
    assert whole.calibration_error == pytest.approx(expected, abs=1e-6)
    assert kappa(whole.counts_KK) == pytest.approx(metrics.cohen_kappa_score(truth_N[known_N], predicted_N[known_N]))
    f1 = metrics.f1_score(truth_N[known_N], predicted_N[known_N], average="macro")
    assert mean_f1(whole.counts_KK) == pytest.approx(f1)


def test_intervals_come_from_polygons_and_not_from_pixels():
    random = np.random.default_rng(0)
    polygon_N = np.repeat(np.arange(30), 400)
    right_P = random.random(30) < 0.7
    truth_N = (polygon_N % 2).astype(int)
    predicted_N = np.where(right_P[polygon_N], truth_N, 1 - truth_N)
    low, high = polygon_intervals(truth_N, predicted_N, polygon_N, 2, 0)["accuracy"]
    assert low < right_P.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * (0.7 * 0.3 / 30) ** 0.5, rel=0.25)
    assert polygon_intervals(truth_N[:1200], predicted_N[:1200], polygon_N[:1200], 2, 0) == {}
