"""The sample to label: as many points as asked for in each class, each pixel once, with chances that follow area."""

import numpy as np
import pyogrio
import pytest
from rasterio.transform import from_origin
from rsfm.errors import UserError
from rsfm.evaluation.mapped import values_of
from rsfm.evaluation.sample import Strata, allocate, draw, measure
from rsfm.raster.area import read_area
from rsfm.raster.reader import open_raster

from tests.backend.toy_model import run_job


def strata(pixels):
    pixels_S = np.array(pixels)
    return Strata(np.arange(len(pixels)), pixels_S, pixels_S * 100.0)


@pytest.mark.parametrize(
    ("pixels", "points", "fewest", "expected"),
    [
        ([9000, 1000], 100, 10, [90, 10]),
        ([9900, 100], 100, 30, [70, 30]),
        ([1000, 1000, 1000], 100, 5, [34, 33, 33]),
        ([5, 1000], 100, 30, [5, 95]),
        ([100, 100000, 100000], 400, 150, [100, 150, 150]),
        ([3, 4], 100, 2, [3, 4]),
    ],
)
def test_points_follow_area_and_rare_classes_get_enough(pixels, points, fewest, expected):
    assert allocate(strata(pixels), points, fewest).tolist() == expected


def test_too_few_points_are_refused_in_words():
    with pytest.raises(UserError, match="Draw 90 or more"):
        allocate(strata([1000, 1000, 1000]), 60, 30)


def drawn_of(raster, counts, seed=0):
    with open_raster(str(raster)) as opened:
        area = read_area(opened.grid, None)
        found = measure(opened, area, values_of(opened, area), lambda: None)
        return found, draw(opened, area, found, np.array(counts), seed, lambda: None)


def test_every_point_lies_in_its_class_and_no_pixel_is_drawn_twice(make_raster):
    random = np.random.default_rng(0)
    map_HW = random.choice([1, 2, 7, 255], (1100, 300), p=[0.7, 0.2999, 0.0001, 0]).astype("uint8")
    map_HW[:, :20] = 255
    path = make_raster(map_HW[None], nodata=255)
    rare = int((map_HW == 7).sum())
    found, drawn = drawn_of(path, [200, 100, rare])
    assert found.value_S.tolist() == [1, 2, 7]
    assert np.bincount(drawn.stratum_N).tolist() == [200, 100, rare]
    assert (map_HW[drawn.rows_N, drawn.columns_N] == found.value_S[drawn.stratum_N]).all()
    assert len(set(zip(drawn.rows_N.tolist(), drawn.columns_N.tolist(), strict=True))) == 300 + rare
    again = drawn_of(path, [200, 100, rare])[1]
    assert np.array_equal(again.rows_N, drawn.rows_N)
    assert not np.array_equal(np.sort(drawn.stratum_N), drawn.stratum_N)


def test_in_degrees_points_follow_the_ground_and_not_the_pixels(make_raster):
    """A map from the equator to 60 degrees: two thirds as many points in its northern third as in its southern."""
    transform = from_origin(0, 60, 0.1, 0.1)
    path = make_raster(np.ones((1, 600, 100), "uint8"), crs="EPSG:4326", transform=transform)
    _, drawn = drawn_of(path, [4000])
    north, south = ((drawn.rows_N < 200).sum(), (drawn.rows_N >= 400).sum())
    expected = (np.sin(np.radians(60)) - np.sin(np.radians(40))) / np.sin(np.radians(20))
    assert north / south == pytest.approx(expected, rel=0.08)


def test_job_makes_a_layer_of_points_with_an_empty_class_and_the_areas_follow(tmp_path, make_raster):
    random = np.random.default_rng(1)
    truth_HW = (np.arange(80)[:, None] < 30).astype("uint8") * np.ones((1, 120), "uint8") + 1
    map_HW = np.where(random.random(truth_HW.shape) < 0.9, truth_HW, 3 - truth_HW).astype("uint8")
    path = make_raster(map_HW[None], "map.tif", nodata=255)
    names = "1=land, 2=water"
    made = run_job(tmp_path, "draw_sample", "sample", raster=str(path), points=400, class_names=names)
    meta, _, wkb, columns = pyogrio.raw.read(made / "sample.gpkg")
    assert list(meta["fields"]) == ["number", "class", "mapped"]
    assert len(wkb) == 400
    assert all(value is None for value in columns[1])
    points = pyogrio.raw.read(made / "sample.gpkg", columns=["number"])
    import shapely

    x_N, y_N = shapely.get_coordinates(shapely.from_wkb(points[2])).T
    rows_N, columns_N = ((5100000 - y_N) // 10).astype(int), ((x_N - 500000) // 10).astype(int)
    looked = np.array(["land", "water"], object)[truth_HW[rows_N, columns_N] - 1]
    looked[:20] = None
    filled = tmp_path / "filled.gpkg"
    pyogrio.raw.write(
        filled, wkb, field_data=[looked], fields=np.array(["class"], object), geometry_type="Point", crs="EPSG:32633"
    )
    config = {"raster": str(path), "labels": str(filled), "class_names": names}
    run_job(tmp_path, "estimate_areas", "areas", **config)
    import json

    result = json.loads((tmp_path / "areas" / "run.json").read_text())["result"]
    water = result["areas"]["water"]
    assert water["low"] < 30 * 120 * 100 < water["high"]
    assert abs(water["value"] - 30 * 120 * 100) < 3 * water["error"]
    assert sum(each["value"] for each in result["areas"].values()) == pytest.approx(80 * 120 * 100, rel=2e-3)
    report = (tmp_path / "areas" / "report.html").read_text(encoding="utf-8")
    assert "Areas on the ground" in report
    assert "95 % interval" in report
