"""Where to label next: uncertain places, spread over space, unlike each other, beside no label; asking again helps."""

import json

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from rsfm import cli
from rsfm.labelling import suggesting
from rsfm.labelling.spots import choose_spots, margin

from .scene import NAMES, NORTH, PIXEL, WEST, square, three_squares, write_labels, write_scene


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    path = tmp_path_factory.mktemp("spots") / "scene.tif"
    return path, write_scene(path)


def suggest(folder, raster, labels, **config):
    folder.mkdir(exist_ok=True)
    file = folder / "config.json"
    file.write_text(json.dumps({"raster": str(raster), "labels": str(labels), "device": "cpu", **config}))
    code = cli.main(["run", "suggest_labels", str(file), "--run", str(folder / "run")])
    return code, folder / "run"


def read(folder):
    """Return rows, columns and attributes of the spots."""
    _, _, wkb, data = pyogrio.raw.read(folder / "outputs" / "where_to_label.gpkg")
    points = shapely.get_coordinates(shapely.from_wkb(wkb))
    columns, rows = (points[:, 0] - WEST) / PIXEL, (NORTH - points[:, 1]) / PIXEL
    return np.floor(rows).astype(int), np.floor(columns).astype(int), data


def scattered(count, side, seed=0):
    """Candidates of a noisy uncertainty that is high in the west."""
    random = np.random.default_rng(seed)
    place_M2 = random.uniform(0, side, (count, 2))
    uncertain_M = (0.9 - 0.8 * place_M2[:, 0] / side + random.normal(0, 0.05, count)).clip(0, 1).astype("float32")
    return uncertain_M, random.normal(size=(count, 6)).astype("float32"), place_M2


def test_spots_are_uncertain_and_far_apart():
    uncertain_M, features_MD, place_M2 = scattered(4000, 1000)
    chosen_S = choose_spots(uncertain_M, features_MD, place_M2, features_MD[:0], 10, 1e6)
    assert len(set(chosen_S.tolist())) == 10
    assert uncertain_M[chosen_S].min() > np.quantile(uncertain_M, 0.9)
    apart = np.hypot(*(place_M2[chosen_S][:, None] - place_M2[chosen_S][None]).transpose(2, 0, 1))
    most_uncertain = place_M2[np.argsort(-uncertain_M)[:10]]
    plain = np.hypot(*(most_uncertain[:, None] - most_uncertain[None]).transpose(2, 0, 1))
    nearest = apart[~np.eye(10, dtype=bool)].reshape(10, 9).min(1).mean()
    assert nearest > 1.5 * plain[~np.eye(10, dtype=bool)].reshape(10, 9).min(1).mean()
    assert nearest > 60


def test_spots_are_unlike_each_other_and_what_is_labelled():
    random = np.random.default_rng(0)
    kind_M = random.integers(0, 10, 2000)
    kind_M[random.random(2000) < 0.7] = 0
    features_MD = np.eye(10, dtype="float32")[kind_M] + random.normal(0, 0.02, (2000, 10)).astype("float32")
    uncertain_M, place_M2 = np.full(2000, 0.5, "float32"), random.uniform(0, 1000, (2000, 2))
    labelled_ND = np.eye(10, dtype="float32")[[0, 1]]
    chosen_S = choose_spots(uncertain_M, features_MD, place_M2, labelled_ND, 8, 1e4)
    assert len(set(kind_M[chosen_S].tolist()) & set(range(2, 10))) >= 5


def test_there_are_as_many_spots_as_there_are_places():
    uncertain_M, features_MD, place_M2 = scattered(3, 10)
    assert sorted(choose_spots(uncertain_M, features_MD, place_M2, features_MD, 10, 100).tolist()) == [0, 1, 2]
    same = np.zeros((5, 2))
    found = choose_spots(uncertain_M[[0] * 5], features_MD[[0] * 5], same, features_MD, 3, 100)
    assert len(set(found.tolist())) == len(found) <= 3


def test_margin_is_one_where_two_classes_are_as_likely_and_none_where_one_is_sure():
    values_KN = np.array([[0, 50, 1], [0, 0, 2], [-50, 0, 1.5]], "float32")
    uncertain_N, first_N, second_N = margin(values_KN)
    assert uncertain_N[:2] == pytest.approx([1, 0], abs=1e-4)
    assert first_N.tolist()[1:] == [0, 1]
    assert second_N.tolist()[2] == 2


def test_job_writes_ten_numbered_points_on_uncertain_pixels_off_the_labels(tmp_path, scene):
    raster, _ = scene
    labels = write_labels(tmp_path / "labels.geojson", three_squares())
    code, folder = suggest(tmp_path / "first", raster, labels)
    assert code == 0
    rows, columns, data = read(folder)
    number, uncertainty, first, second = data
    assert number.tolist() == list(range(1, 11))
    assert set(first) | set(second) <= set(NAMES)
    assert (first != second).all()
    with rasterio.open(raster) as file:
        assert (file.read(1)[rows, columns] != 0).all()
    result = json.loads((folder / "run.json").read_text())["result"]
    assert uncertainty.mean() > 2 * result["uncertainty_of_all"]
    apart = np.hypot(rows[:, None] - rows[None], columns[:, None] - columns[None])
    assert apart[~np.eye(10, dtype=bool)].min() > 50
    for feature in three_squares():
        west, south, east, north = shapely.from_geojson(json.dumps(feature["geometry"])).bounds
        inside = (columns * PIXEL + WEST > west - 100) & (columns * PIXEL + WEST < east + 100)
        inside &= (NORTH - rows * PIXEL > south - 100) & (NORTH - rows * PIXEL < north + 100)
        assert not inside.any()


def test_spots_of_an_area_lie_in_it_and_a_large_raster_is_looked_at_in_samples(tmp_path, scene, monkeypatch):
    raster, _ = scene
    labels = write_labels(tmp_path / "labels.geojson", three_squares())
    area = f"{WEST},{NORTH - 3000},{WEST + 3000},{NORTH}"
    _, folder = suggest(tmp_path / "area", raster, labels, area=area, count=5)
    rows, columns, _ = read(folder)
    assert len(rows) == 5
    assert max(rows.max(), columns.max()) < 300
    monkeypatch.setattr(suggesting, "MOST_PIXELS", 150_000)
    _, folder = suggest(tmp_path / "samples", raster, labels, learner="forest")
    rows, columns, _ = read(folder)
    assert len(rows) == 10
    assert min(np.ptp(rows), np.ptp(columns)) > 300


def test_labelling_the_spots_and_asking_again_teaches_more_than_places_at_random(tmp_path):
    """Label, refit, repeat: a class that no polygon shows at first is found, and the map gets better."""
    raster = tmp_path / "scene.tif"
    truth_HW = write_scene(raster, square=70)
    random = np.random.default_rng(0)

    def label(spots):
        return [square(row - 3, column - 3, 7, NAMES[truth_HW[row, column] - 1]) for row, column in spots]

    asked = chance = three_squares(side=4)[:2]
    scores = []
    for step in range(2):
        labels = write_labels(tmp_path / f"asked_{step}.geojson", asked)
        _, folder = suggest(tmp_path / f"round_{step}", raster, labels, count=6)
        asked = asked + label(np.stack(read(folder)[:2], 1))
        chance = chance + label(random.integers(24, 690, (6, 2)))
    for name, features in (("asked", asked), ("chance", chance)):
        labels = write_labels(tmp_path / f"{name}.geojson", features)
        file = tmp_path / f"{name}.json"
        file.write_text(json.dumps({"raster": str(raster), "labels": str(labels), "device": "cpu"}))
        assert cli.main(["run", "probe", str(file), "--run", str(tmp_path / name)]) == 0
        with rasterio.open(tmp_path / name / "outputs" / "quick_map.tif") as made:
            scores.append((made.read(1) == truth_HW).mean())
    assert scores[0] > 0.8
    assert scores[0] > scores[1] - 0.03
