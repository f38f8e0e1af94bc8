"""Groups that look alike: those of scikit-learn on the whole features in memory, whatever is cut or ended."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pytest
import rasterio
import torch
from rsfm import cli
from rsfm.centres import Centres, fit_centres, load_centres
from rsfm.distinct_colours import FIRST, distances, distinct_colours
from rsfm.errors import UserError
from sklearn.cluster import MiniBatchKMeans

from .test_embedding import HALO, HOLE, SIDE, TILING, cells, whole_features, write_scene
from .tiling.test_rule_8_interruption import start, wait_for_rows
from .toy_model import make_model, pixels, run_job, same, write_config


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A scene, a model, and the map of its groups."""
    folder = tmp_path_factory.mktemp("clustering")
    scene = write_scene(folder / "first.tif", 0)
    model = make_model(folder / "model.safetensors", scene)
    config = {"raster": str(scene), "model": str(model), "tiling": TILING, "device": "cpu", "clusters": 5}
    made = run_job(folder, "cluster", "all", **config, polygons=True)
    return {"folder": folder, "first": scene, "model": model, "config": config, "made": made}


def group(work, name: str, **changes: Any) -> Path:
    return run_job(work["folder"], "cluster", name, **{**work["config"], **changes})


def predict(features_DHW: np.ndarray, centres: Centres) -> tuple[np.ndarray, np.ndarray]:
    """Let scikit-learn find the nearest centre of features in memory; returns groups and how clear each choice was."""
    learner = MiniBatchKMeans(len(centres.centres_KD), n_init=1, random_state=0).fit(centres.centres_KD)
    learner.cluster_centers_ = centres.centres_KD
    flat_ND = np.ascontiguousarray(np.moveaxis(features_DHW, 0, -1).reshape(-1, len(features_DHW)) - centres.mean_D)
    distances_NK = np.sort(learner.transform(flat_ND), axis=1)
    clear_N = distances_NK[:, 1] - distances_NK[:, 0] > 1e-4 * distances_NK[:, 1]
    shape = features_DHW.shape[1:]
    return learner.predict(flat_ND).reshape(shape) + 1, clear_N.reshape(shape)


@pytest.mark.parametrize("grid", ["patch", "pixel"])
def test_groups_equal_scikit_learns_on_whole_features_in_memory(work, grid):
    made = group(work, grid, grid=grid)
    features_DHW = whole_features(work, work["first"])
    if grid == "pixel":
        fine = torch.nn.functional.interpolate(
            torch.from_numpy(features_DHW)[None], scale_factor=SIDE, mode="bilinear", align_corners=False
        )
        features_DHW = fine[0, :, HALO:-HALO, HALO:-HALO].numpy()
    else:
        features_DHW = cells(features_DHW)
    expected_HW, clear_HW = predict(features_DHW, load_centres(made / "clusters.centres.npz"))
    found_HW = pixels(made / "clusters.tif")[0]
    valid_HW = found_HW != 255
    assert clear_HW[valid_HW].mean() > 0.999
    assert np.array_equal(found_HW[valid_HW & clear_HW], expected_HW[valid_HW & clear_HW])
    assert set(np.unique(found_HW)) == {1, 2, 3, 4, 5, 255}
    if grid == "pixel":
        assert np.array_equal(~valid_HW, (pixels(work["first"]) == 0).any(0))
        assert not valid_HW[HOLE].any()


def test_areas_colours_and_polygons_are_those_of_the_map(work):
    result = json.loads((work["made"].parent / "run.json").read_text())["result"]
    with rasterio.open(work["made"] / "clusters.tif") as file:
        groups_HW, colours = file.read(1), file.colormap(1)
        assert file.nodata == 255
        assert file.tags()["RSFM_CLASSES"].startswith("1 Group 1; 2 Group 2")
    counts = np.bincount(groups_HW.ravel(), minlength=6)[1:6]
    assert list(result["area_m2"].values()) == [pytest.approx(100 * count, rel=1e-6) for count in counts]
    assert [("#{:02x}{:02x}{:02x}").format(*colours[value][:3]) for value in range(1, 6)] == list(FIRST[:5])
    _, _, _, (value, area) = pyogrio.raw.read(work["made"] / "clusters.gpkg", columns=["class", "area_m2"])
    for index, count in enumerate(counts, start=1):
        assert area[value == index].sum() == pytest.approx(100 * count, rel=2e-3)


def test_an_area_is_the_crop_of_the_whole_and_polygons_are_kept_to(work):
    west, north = 500000, 5100000
    box = (west + 333, north - 2571, west + 1402, north - 205)
    part = group(work, "part", area=",".join(map(str, box)))
    triangle = f"POLYGON(({box[0]} {box[1]}, {box[2]} {box[1]}, {box[0]} {box[3]}, {box[0]} {box[1]}))"
    half = group(work, "half", area=triangle)
    with rasterio.open(part / "clusters.tif") as found, rasterio.open(work["made"] / "clusters.tif") as whole:
        part_HW, whole_HW = found.read(1), whole.read(1, window=whole.window(*found.bounds))
    half_HW = pixels(half / "clusters.tif")[0]
    assert np.array_equal(part_HW, whole_HW)
    inside_HW = half_HW != 255
    assert 0.3 < inside_HW.mean() < 0.6
    assert np.array_equal(half_HW[inside_HW], whole_HW[inside_HW])


def test_an_embedding_layer_is_grouped_in_its_true_values_whatever_it_is_stored_as(work):
    config = {key: value for key, value in work["config"].items() if key != "clusters"}
    found = {}
    for storage in ("float32", "float16", "int8"):
        layer = run_job(work["folder"], "embed", f"embedded_{storage}", **config, components=4, storage=storage)
        made = group(work, f"of_{storage}", raster=str(layer / "embedding.tif"), model=None)
        found[storage] = pixels(made / "clusters.tif")[0]
        with rasterio.open(layer / "embedding.tif") as file:
            scales, offsets = (np.array(each)[:, None, None] for each in (file.scales, file.offsets))
            values_KHW = np.nan_to_num(file.read() * scales + offsets).astype(np.float32)
        expected_HW, clear_HW = predict(values_KHW, load_centres(made / "clusters.centres.npz"))
        looked_HW = clear_HW & (found[storage] != 255)
        assert np.array_equal(found[storage][looked_HW], expected_HW[looked_HW])
    assert (found["float32"] == found["float16"]).mean() > 0.98
    assert np.array_equal(found["float32"] == 255, found["int8"] == 255)


def test_another_run_takes_the_same_groups(work, tmp_path, capsys):
    other = write_scene(tmp_path / "other.tif", 7)
    made = group(work, "other", raster=str(other), same_as=str(work["made"] / "clusters.tif"), clusters=3)
    taken, own = (load_centres(each / "clusters.centres.npz") for each in (made, work["made"]))
    assert np.array_equal(taken.centres_KD, own.centres_KD)
    wrong = {**work["config"], "model": None, "same_as": str(work["made"] / "clusters.tif")}
    file = write_config(tmp_path, "wrong", **wrong)
    assert cli.main(["run", "cluster", str(file), "--run", str(tmp_path / "wrong")]) == 2
    assert "found among other features" in capsys.readouterr().err


def test_a_killed_run_goes_on_to_the_same_groups(tmp_path, work):
    tall = tmp_path / "tall.tif"
    with rasterio.open(work["first"]) as source:
        profile = {**source.profile, "height": 1500}
        with rasterio.open(tall, "w", **profile) as target:
            target.write(np.tile(source.read(), (1, 5, 1)))
    config = {**work["config"], "raster": str(tall)}
    whole = run_job(tmp_path, "cluster", "whole", **config)
    folder = tmp_path / "run"
    process = start(tmp_path, ["run", "cluster", str(write_config(tmp_path, "config", **config)), "--run", str(folder)])
    wait_for_rows(folder, process)
    process.kill()
    process.wait()
    subprocess.run(
        [sys.executable, "-m", "rsfm", "resume", str(folder)], env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True
    )
    assert same(folder / "outputs", whole)
    results = [json.loads((each / "run.json").read_text())["result"] for each in (folder, whole.parent)]
    assert results[0] == results[1]


def test_centres_are_the_means_of_blobs_and_the_most_frequent_comes_first():
    random = np.random.default_rng(0)
    middles_KD = np.array([[0, 0, 10], [30, 0, 0], [0, 50, 0]], np.float32)
    counts = (200, 900, 400)
    blobs = [random.normal(middle, 0.1, (count, 3)) for middle, count in zip(middles_KD, counts, strict=True)]
    sample_ND = random.permutation(np.concatenate(blobs)).astype(np.float32)
    centres = fit_centres(sample_ND, 3, 0)
    assert centres.centres_KD + centres.mean_D == pytest.approx(middles_KD[[1, 2, 0]], abs=0.1)
    assert np.array_equal(fit_centres(sample_ND, 3, 0).centres_KD, centres.centres_KD)
    with pytest.raises(UserError, match="2 valid cells were found for 3 groups"):
        fit_centres(sample_ND[:2], 3, 0)


def test_colours_begin_with_okabe_and_itos_and_stay_apart_for_every_eye():
    colours = np.array([[int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)] for colour in distinct_colours(64)])
    assert distinct_colours(3) == FIRST[:3]
    assert distinct_colours(64)[:16] == distinct_colours(16)
    assert len(set(distinct_colours(64))) == 64
    for count, least in ((16, 17), (32, 13), (64, 8)):
        nearest = [np.delete(distances(colours[:count], colours[i]), i).min() for i in range(count)]
        assert min(nearest) > least
    random = np.random.default_rng(0).random((64, 3))
    assert min(np.delete(distances(random, random[i]), i).min() for i in range(64)) < 2
