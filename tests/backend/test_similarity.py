"""Places like those that were clicked: one product of the stored index, equal to the slow obvious one."""

import json
from typing import Any

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from rsfm import cli, similarity

from .test_embedding import TILING, write_scene
from .toy_model import make_model, pixels, run_job, write_config

WEST, NORTH, CELL = 500000, 5100000, 40


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A scene and its index."""
    folder = tmp_path_factory.mktemp("similarity")
    scene = write_scene(folder / "first.tif", 0)
    model = make_model(folder / "model.safetensors", scene)
    made = run_job(
        folder, "embed", "embedded", raster=str(scene), model=str(model), tiling=TILING, device="cpu", index=True
    )
    return {"folder": folder, "index": made / "index.tif", "features": pixels(made / "index.tif"), "scene": scene}


def at(row: float, column: float) -> str:
    """Write a place, in patches, in map coordinates."""
    return f"{WEST + column * CELL},{NORTH - row * CELL}"


def find(work, name: str, **config: Any) -> np.ndarray:
    return pixels(run_job(work["folder"], "find_similar", name, index=str(work["index"]), **config) / "similarity.tif")[
        0
    ]


def test_a_click_at_the_centre_of_a_patch_gives_its_cosine_with_all_others(work):
    found_HW = find(work, "one", like=at(60.5, 10.5))
    expected_HW = np.einsum("d,dhw->hw", work["features"][:, 60, 10], work["features"])
    np.testing.assert_allclose(found_HW, expected_HW, atol=1e-3, equal_nan=True)
    assert found_HW[60, 10] == pytest.approx(1, abs=1e-3)
    assert np.array_equal(np.isnan(found_HW), np.isnan(work["features"][0]))


def test_several_clicks_are_means_of_interpolated_features_less_those_of_the_others(work):
    found_HW = find(work, "several", like=f"{at(60.75, 10.25)}; {at(3.5, 40.5)}", unlike=at(30.5, 5.5))
    around = work["features"][:, 60:62, 9:11].astype(np.float64)
    first = np.einsum("dij,i,j->d", around, [0.75, 0.25], [0.25, 0.75])
    second, other = work["features"][:, 3, 40].astype(np.float64), work["features"][:, 30, 5].astype(np.float64)
    first, second, other = (each / np.linalg.norm(each) for each in (first, second, other))
    query = (first + second) / 2 - other
    expected_HW = np.einsum("d,dhw->hw", query / np.linalg.norm(query), work["features"])
    np.testing.assert_allclose(found_HW, expected_HW, atol=1e-5, equal_nan=True)


def test_layers_of_points_in_another_crs_count_as_clicks(work, tmp_path):
    from rasterio.warp import transform

    places = [[float(part) for part in each.split(",")] for each in (at(60.5, 10.5), at(20.5, 30.5))]
    xs, ys = transform("EPSG:32633", "EPSG:4326", *zip(*places, strict=True))
    points = shapely.to_wkb(shapely.points(xs, ys))
    file = tmp_path / "points.gpkg"
    pyogrio.raw.write(file, points, [], [], geometry_type="Point", crs="EPSG:4326", driver="GPKG")
    by_layer = find(work, "layer", like_layer=str(file))
    by_text = find(work, "text", like=f"{at(60.5, 10.5)};{at(20.5, 30.5)}")
    np.testing.assert_allclose(by_layer, by_text, atol=1e-4, equal_nan=True)


def test_small_pieces_give_the_same_and_an_area_is_the_crop(work, monkeypatch):
    whole_HW = find(work, "whole", like=at(60.5, 10.5))
    monkeypatch.setattr(similarity, "PIECE_BYTES", 1)
    np.testing.assert_array_equal(find(work, "pieces", like=at(60.5, 10.5)), whole_HW)
    left, top, right, bottom = 7, 11, 30, 50
    x, y = WEST + left * CELL, NORTH - bottom * CELL
    box = f"{x},{y},{WEST + right * CELL},{NORTH - top * CELL}"
    np.testing.assert_allclose(
        find(work, "area", like=at(60.5, 10.5), area=box), whole_HW[top:bottom, left:right], atol=1e-6
    )
    triangle = f"POLYGON(({x} {y}, {x + 900} {y}, {x} {y + 1500}, {x} {y}))"
    part_HW = find(work, "triangle", like=at(60.5, 10.5), area=triangle)
    assert 0 < np.isnan(part_HW).mean() < 0.7


def test_what_is_clicked_outside_is_told_and_nonsense_is_refused(work, tmp_path, capsys):
    find(work, "outside", like=f"{at(60.5, 10.5)};{at(-5, 3)};{at(17, 32)}")
    assert "2 of 3 places lie where the index has no features" in capsys.readouterr().err
    for config, sentence in (
        ({"like": at(-5, 3)}, "No place lies on a patch"),
        ({"like": "here"}, "were not understood"),
        ({"like": at(60.5, 10.5), "unlike": at(60.5, 10.5)}, "are the same"),
        ({"like": at(60.5, 10.5), "index": str(work["scene"])}, "is no search index"),
    ):
        file = write_config(tmp_path, "config", **{"index": str(work["index"]), **config})
        assert cli.main(["run", "find_similar", str(file), "--run", str(tmp_path / "refused")]) == 2
        assert sentence in capsys.readouterr().err


def test_colours_span_the_percentiles_of_the_map(work):
    found_HW = find(work, "colours", like=at(60.5, 10.5))
    events = (work["folder"] / "colours" / "events.jsonl").read_text().splitlines()
    style = next(event["style"] for event in map(json.loads, events) if event["type"] == "output")
    expected = np.nanpercentile(found_HW, [2, 99.9])
    assert [style["minimum"], style["maximum"]] == pytest.approx(expected, abs=0.01)
    with rasterio.open(work["folder"] / "colours" / "outputs" / "similarity.tif") as file:
        assert file.transform.a == CELL


def test_a_lost_run_is_done_again(work):
    expected_HW = find(work, "lost", like=at(60.5, 10.5))
    folder = work["folder"] / "lost"
    (folder / "outputs" / "similarity.tif").unlink()
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**record, "state": "running", "pid": 2**22 + 1}))
    assert cli.main(["resume", str(folder)]) == 0
    np.testing.assert_array_equal(pixels(folder / "outputs" / "similarity.tif")[0], expected_HW)
