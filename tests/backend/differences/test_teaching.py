"""Teaching change and mapping it, with the jobs themselves on made rasters."""

import json
import subprocess
import sys
import time

import numpy as np
import pyogrio
import pytest
import rasterio
from rsfm import model_file, runs
from rsfm.differences.change_network import load_change_network
from rsfm.raster.reader import open_raster
from sklearn.metrics import f1_score

from tests.backend.test_bad_input import refused
from tests.backend.toy_model import make_model, pixels, run_job, write_config

from .pair_case import GSD, NORTH, QUICK, SIDE, WEST, make_places, truth, write

INSIDE = slice(0, SIDE), slice(0, 188)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Two dates, and what teaching on them gave."""
    folder = tmp_path_factory.mktemp("teaching")
    places = make_places(folder)
    outputs = run_job(folder, "finetune_change", "taught", **config_of(places))
    return {"folder": folder, "places": places, "taught": outputs, "model": str(outputs / "model.safetensors")}


def config_of(places, **values):
    given = {"before": str(places.before), "after": str(places.after), "changes": str(places.changes)}
    return {**given, "complete": places.whole, **QUICK, **values}


def detect(work, name, **values):
    places = work["places"]
    given = {"before": str(places.before), "after": str(places.after), "model": work["model"], "device": "cpu"}
    return run_job(work["folder"], "detect_change", name, **{**given, **values})


def result_of(outputs):
    return json.loads((outputs.parent / "run.json").read_text())["result"]


def test_a_taught_network_is_judged_on_held_out_blocks_beside_ir_mad_and_maps_the_changes(work):
    result = result_of(work["taught"])
    assert result["f1"] > 0.8
    assert 0 <= result["f1_ir_mad_automatic"] <= result["f1_ir_mad"] + 0.05 <= 1.05
    assert f"{result['f1']:.2f}" in result["sentence"]
    assert f"{result['f1_ir_mad']:.2f}" in result["sentence"]
    assert {"train", "test"} == set(pyogrio.raw.read(work["taught"] / "split.gpkg")[3][0])
    card = model_file.read_card(work["model"])
    assert (card.head["task"], card.window, card.classes[0].name) == ("change", 64, "changed")
    outputs = detect(work, "map")
    change_HW, confidence_HW = pixels(outputs / "change.tif")[0], pixels(outputs / "confidence.tif")[0]
    assert f1_score(truth()[INSIDE].ravel(), change_HW[INSIDE].ravel() == 1) > 0.8
    assert (change_HW[:, 188:] == 255).all()
    assert np.isnan(confidence_HW[:, 188:]).all()
    assert (confidence_HW[INSIDE] >= 0.5).all()
    meta, _, _, columns = pyogrio.raw.read(outputs / "change.gpkg")
    table = dict(zip(meta["fields"], columns, strict=True))
    found = result_of(outputs)
    assert len(table["rank"]) == found["polygons"] > 5
    assert sorted(table["rank"]) == list(range(1, found["polygons"] + 1))
    assert table["area_m2"].sum() == pytest.approx(found["area_changed_m2"], rel=1e-6)
    assert table["area_m2"].sum() == pytest.approx((change_HW == 1).sum() * GSD**2, rel=2e-3)
    assert set(table["kind"]) == {"changed"}
    shown = json.loads((outputs.parent / "shown" / "changes.json").read_text())
    assert [place["fields"]["area_m2"] for place in shown["places"]] == sorted(table["area_m2"], reverse=True)[:20]
    assert 'id="changes"' in (outputs.parent / "report.html").read_text(encoding="utf-8")


def test_the_map_of_an_area_is_the_crop_of_the_whole_and_small_changes_can_be_left_out(work):
    whole = detect(work, "whole")
    bounds = f"{WEST + 30 * GSD},{NORTH - 150 * GSD},{WEST + 131 * GSD},{NORTH - 21 * GSD}"
    part = detect(work, "part", area=bounds, minimum_area=200)
    for name in ("change.tif", "confidence.tif"):
        np.testing.assert_array_equal(pixels(part / name), pixels(whole / name)[:, 21:150, 30:131])
    assert pyogrio.raw.read(part / "change.gpkg")[3][3].min() >= 200


def test_tiles_of_another_size_and_the_dates_in_the_other_order_give_the_same_map(work):
    places = work["places"]
    whole, tiled = detect(work, "usual"), detect(work, "tiled", tile_size=160)
    swapped = detect(work, "swapped", before=str(places.after), after=str(places.before))
    for other in (tiled, swapped):
        np.testing.assert_allclose(
            pixels(other / "confidence.tif"), pixels(whole / "confidence.tif"), atol=1e-4, equal_nan=True
        )
        np.testing.assert_array_equal(pixels(other / "change.tif"), pixels(whole / "change.tif"))


def test_gain_and_offset_of_a_date_change_next_to_nothing_and_a_shifted_grid_is_resampled(work):
    places, whole = work["places"], detect(work, "plain")
    with rasterio.open(places.after) as opened:
        later = opened.read().astype(float)
    brighter = write(work["folder"] / "brighter.tif", np.where(later > 0, later * 1.5 + 200, 0))
    other = detect(work, "brighter", after=str(brighter))
    assert (pixels(other / "change.tif") != pixels(whole / "change.tif")).mean() < 0.005
    moved = write(work["folder"] / "moved.tif", later, down=0.5 * GSD)
    shifted = detect(work, "shifted", after=str(moved))
    assert f1_score(truth()[INSIDE].ravel(), pixels(shifted / "change.tif")[0][INSIDE].ravel() == 1) > 0.7


def test_stopped_teaching_of_bit_leaves_a_model_goes_on_and_maps_an_area_as_the_whole(work, tmp_path):
    values = {"training": {**QUICK["training"], "epochs": 6}, "head": {"name": "bit", "width": 8}}
    folder, config = tmp_path / "run", write_config(tmp_path, "c", **config_of(work["places"], **values))
    process = start(["run", "finetune_change", str(config), "--run", str(folder)])
    while process.poll() is None and '"metric"' not in events(folder):
        time.sleep(0.05)
    runs.request_end(folder, "stop")
    assert process.wait() == 0
    assert runs.read(folder)["state"] == "stopped"
    load_change_network(model_file.load(str(folder / "outputs" / "model.safetensors")))
    assert start(["resume", str(folder)]).wait() == 0
    assert runs.read(folder)["result"]["f1"] is not None
    model = str(folder / "outputs" / "model.safetensors")
    whole = detect(work, "whole_by_bit", model=model)
    bounds = f"{WEST + 30 * GSD},{NORTH - 150 * GSD},{WEST + 131 * GSD},{NORTH - 21 * GSD}"
    part = detect(work, "part_by_bit", model=model, area=bounds)
    for name in ("change.tif", "confidence.tif"):
        np.testing.assert_array_equal(pixels(part / name), pixels(whole / name)[:, 21:150, 30:131])


def start(command):
    return subprocess.Popen([sys.executable, "-m", "rsfm", *command], stderr=subprocess.DEVNULL)


def events(folder):
    path = folder / "events.jsonl"
    return path.read_text() if path.exists() else ""


def test_a_pretrained_encoder_is_taken_and_kept_where_that_is_asked_for(work):
    places, folder = work["places"], work["folder"]
    pretrained = make_model(folder / "pretrained.safetensors", places.before)
    values = {"model": str(pretrained), "frozen": True, "training": {**QUICK["training"], "epochs": 1}}
    outputs = run_job(folder, "finetune_change", "frozen", **config_of(places, **values))
    before, after = (model_file.load(str(path)) for path in (pretrained, outputs / "model.safetensors"))
    assert after.card.encoder == before.card.encoder
    for name, value in before.tensors.items():
        assert not name.startswith("encoder.") or (value == after.tensors[name]).all(), name


def test_models_and_rasters_that_do_not_fit_are_refused(work, tmp_path, monkeypatch, capsys):
    places, given = work["places"], {"before": str(work["places"].before), "after": str(work["places"].after)}
    with open_raster(given["before"]) as opened:
        two = opened.read(opened.grid.window)[0][:2]
    paths = [work["folder"] / f"{name}.tif" for name in ("two", "two_later")]
    for path in paths:
        with rasterio.open(places.before) as opened:
            profile = opened.profile | {"count": 2}
        with rasterio.open(path, "w", **profile) as target:
            target.write(two.astype("uint16"))
    config = {"before": str(paths[0]), "after": str(paths[1]), "model": work["model"]}
    assert "trained on 3 bands" in refused(tmp_path, monkeypatch, capsys, "detect_change", **config)
    sentence = refused(tmp_path, monkeypatch, capsys, "segment", raster=given["before"], model=work["model"])
    assert "not made for this" in sentence
    config = config_of(places, complete=None)
    assert "learning needs that too" in refused(tmp_path, monkeypatch, capsys, "finetune_change", **config)
