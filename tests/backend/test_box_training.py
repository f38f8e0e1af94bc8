"""Teaching a detector and finding objects with it, with the jobs themselves on a made raster; and what they refuse."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
import torch
from affine import Affine
from rsfm import cli, model_file, runs
from rsfm.detector import DetectorNetwork, load_detector, new_detector
from rsfm.model_file import build_encoder

from .test_bad_input import refused
from .toy_detector import QUICK, make_detector
from .toy_model import make_model, run_job, write_config

WEST, NORTH, GSD = 500000, 5100000, 0.5
SQUARES = [(row, column) for row in range(12, 244, 40) for column in range(8, 244, 40)]


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A raster of 256 x 256 pixels with bright squares of 16 pixels, their boxes, and a detector of random weights."""
    folder = tmp_path_factory.mktemp("boxes")
    pixels_CHW = np.random.default_rng(0).normal(500, 50, (4, 256, 256))
    for row, column in SQUARES:
        pixels_CHW[:, row : row + 16, column : column + 16] += 1500
    pixels_CHW[:, :, 250:] = 0
    raster = folder / "squares.tif"
    shape = {"count": 4, "height": 256, "width": 256, "dtype": "uint16", "nodata": 0}
    place = {"crs": "EPSG:32633", "transform": Affine(GSD, 0, WEST, 0, -GSD, NORTH)}
    with rasterio.open(raster, "w", driver="GTiff", **shape, **place) as target:
        target.write(pixels_CHW.clip(0).astype("uint16"))
    boxes = write_boxes(folder / "boxes.gpkg", [on_map(row, column, 16) for row, column in SQUARES])
    model = make_detector(folder / "detector.safetensors", raster)
    return {"folder": folder, "raster": raster, "boxes": boxes, "model": model}


def on_map(row, column, side):
    x, y = WEST + column * GSD, NORTH - row * GSD
    return shapely.box(x, y - side * GSD, x + side * GSD, y)


def write_boxes(path, shapes, names=None, kind="Polygon"):
    values = np.array(names or ["square"] * len(shapes), dtype=object)
    wkb = shapely.to_wkb(np.array(shapes, object))
    pyogrio.raw.write(path, wkb, [values], ["class"], geometry_type=kind, crs="EPSG:32633")
    return path


def found(path):
    meta, _, wkb, columns = pyogrio.raw.read(path)
    return shapely.from_wkb(wkb), dict(zip(meta["fields"], columns, strict=True))


def test_a_taught_detector_is_judged_on_held_out_blocks_and_finds_the_objects(work):
    learn = {**QUICK, "training": {**QUICK["training"], "epochs": 8, "learning_rate": 3e-3}}
    config = {"rasters": [str(work["raster"])], "boxes": str(work["boxes"]), "class_field": "class", **learn}
    outputs = run_job(work["folder"], "finetune_boxes", "taught", **config)
    result = json.loads((outputs.parent / "run.json").read_text())["result"]
    assert result["boxes"] == {"square": 36}
    assert 0 <= result["ap50"] <= 1
    assert result["ap50_template"] > 0.7  # squares of one size are what a template is for
    assert f"{result['ap50']:.2f}" in result["sentence"]
    parts = pyogrio.raw.read(outputs / "split_squares.gpkg")[3][0]
    assert {"train", "test"} == set(parts)
    card = model_file.read_card(str(outputs / "model.safetensors"))
    assert card.head["largest_m"] == 8
    assert card.classes[0].name == "square"
    config = {"raster": str(work["raster"]), "model": str(outputs / "model.safetensors"), "least_score": 0.05}
    run_job(work["folder"], "detect_objects", "found_by_taught", **config)


def test_boxes_have_class_score_size_and_centre_and_there_are_none_on_nodata(work):
    config = {"raster": str(work["raster"]), "model": str(work["model"]), "least_score": 0.0}
    outputs = run_job(work["folder"], "detect_objects", "found", **config)
    shapes, columns = found(outputs / "objects.gpkg")
    assert len(shapes) > 20
    west, south, east, north = shapely.bounds(shapes).T
    assert np.allclose(columns["width_m"], east - west, atol=2e-3)
    assert np.allclose(columns["height_m"], north - south, atol=2e-3)
    assert np.allclose(columns["x"], (west + east) / 2)
    assert np.allclose(columns["y"], (south + north) / 2)
    assert np.array_equal(np.where(columns["class"] == 1, "one", "two"), columns["name"])
    assert (columns["x"] < WEST + 250 * GSD).all()
    assert max(columns["width_m"].max(), columns["height_m"].max()) <= 15
    result = json.loads((outputs.parent / "run.json").read_text())["result"]
    assert result["objects"] == len(shapes) == sum(result["classes"].values())


def test_the_boxes_of_an_area_are_those_of_the_whole_whose_centre_lies_in_it(work):
    config = {"raster": str(work["raster"]), "model": str(work["model"]), "least_score": 0.0, "tile_size": 96}
    whole, columns = found(run_job(work["folder"], "detect_objects", "whole", **config) / "objects.gpkg")
    bounds = WEST + 30, NORTH - 90, WEST + 100, NORTH - 20
    area = ",".join(str(value) for value in bounds)
    part, _ = found(run_job(work["folder"], "detect_objects", "part", **config, area=area) / "objects.gpkg")
    x, y = columns["x"], columns["y"]
    inside = (x >= bounds[0]) & (x < bounds[2]) & (y > bounds[1]) & (y <= bounds[3])
    assert 0 < inside.sum() < len(whole)
    assert len(part) == inside.sum()
    mine = np.array(sorted(shapely.bounds(part).tolist()))
    assert np.allclose(mine, sorted(shapely.bounds(whole[inside]).tolist()), atol=1e-3)


@pytest.mark.slow
def test_a_killed_search_goes_on_to_the_same_boxes_and_a_stopped_one_shows_its_rows(work, tmp_path):
    values = {"raster": str(work["raster"]), "model": str(work["model"]), "least_score": 0.0, "tile_size": 32}
    values |= {"largest": 4, "device": "cpu"}
    expected = run_job(tmp_path, "detect_objects", "whole", **values) / "objects.gpkg"
    for name in ("killed", "stopped"):
        folder = tmp_path / name
        config = write_config(tmp_path, name, **values)
        process = start(["run", "detect_objects", str(config), "--run", str(folder)])
        journal = folder / "checkpoints" / "rows" / "boxes.journal"
        while process.poll() is None and not (journal.exists() and journal.stat().st_size):
            time.sleep(0.01)
        if name == "killed":
            process.kill()
        else:
            runs.request_end(folder, "stop")
        process.wait()
        assert journal.stat().st_size
        if name == "stopped":
            assert 0 < len(found(folder / "outputs" / "objects.gpkg")[0]) < len(found(expected)[0])
        assert start(["resume", str(folder)]).wait() == 0
        for ours, theirs in zip(found(folder / "outputs" / "objects.gpkg"), found(expected), strict=True):
            assert str(ours) == str(theirs)
        assert len(found(expected)[0]) == len(found(folder / "outputs" / "objects.gpkg")[0])
        assert not journal.exists()


def start(command):
    return subprocess.Popen([sys.executable, "-m", "rsfm", *command], stderr=subprocess.DEVNULL)


def test_a_loaded_detector_gives_what_the_saved_one_gave_whatever_the_batch(work):
    network = DetectorNetwork(
        load_detector(model_file.load(str(work["model"]))), model_file.read_card(str(work["model"])).statistics
    )
    pixels_BCSS = torch.rand(3, 4, 96, 96, generator=torch.Generator().manual_seed(0)) * 2000
    valid_BSS = torch.ones(3, 96, 96, dtype=torch.bool)
    with torch.inference_mode():
        together = network(pixels_BCSS, valid_BSS)
        alone = [network(pixels_BCSS[i : i + 1], valid_BSS[i : i + 1])[0] for i in range(3)]
    for one, other in zip(together, alone, strict=True):
        assert len(one.score_N) == len(other.score_N) > 0
        apart_NN = torch.cdist(
            one.corners_N4, other.corners_N4, compute_mode="donot_use_mm_for_euclid_dist"
        )  # scores that are nearly equal may change places
        assert apart_NN.amin(1).max() < 0.01
        assert apart_NN.amin(0).max() < 0.01


@pytest.mark.parametrize(
    "encoder",
    [
        {"name": "conv_small", "width": 32},
        {"name": "resnet", "depth": "18"},
        {"name": "vit", "width": 24, "depth": 2, "heads": 2, "patch_size": 16, "window": 64},
        {"name": "vit", "width": 24, "depth": 2, "heads": 2, "patch_size": 7, "window": 28},
    ],
)
@pytest.mark.parametrize("bands", [1, 5])
def test_every_encoder_learns_boxes_and_finds_them(encoder, bands):
    from rsfm.detector import Target

    detector = new_detector(QUICK["detector"], build_encoder(encoder, bands), 3).train()
    side = detector.pyramid.multiple if detector.pyramid.multiple > 64 else 96
    pixels_BCHW = torch.randn(2, bands, side, side)
    box = Target(torch.tensor([[10.0, 10, 40, 30]]), torch.tensor([3]))
    none = Target(torch.empty(0, 4), torch.empty(0, dtype=torch.int64))
    losses = detector.losses(pixels_BCHW, [box, none])
    sum(losses.values()).backward()
    without = [name for name, value in detector.named_parameters() if value.requires_grad and value.grad is None]
    assert not [name for name in without if not name.startswith("encoder.")]
    levels = detector.pyramid(detector.encoder.feature_maps(pixels_BCHW), side, side)
    assert [tuple(level.shape[2:]) for level in levels] == [
        (side // stride, side // stride) for stride in (4, 8, 16, 32)
    ]
    found = detector.eval().find(pixels_BCHW)
    assert len(found) == 2
    assert all(((each.class_N >= 1) & (each.class_N <= 3)).all() for each in found)


def test_stopped_teaching_leaves_a_model_and_goes_on(work, tmp_path):
    config = {"rasters": [str(work["raster"])], "boxes": str(work["boxes"]), **QUICK}
    config["training"] = {**QUICK["training"], "epochs": 5}
    folder = tmp_path / "run"
    process = start(["run", "finetune_boxes", str(write_config(tmp_path, "c", **config)), "--run", str(folder)])
    while process.poll() is None and '"metric"' not in events(folder):
        time.sleep(0.05)
    runs.request_end(folder, "stop")
    assert process.wait() == 0
    assert runs.read(folder)["state"] == "stopped"
    load_detector(model_file.load(str(folder / "outputs" / "model.safetensors")))
    assert start(["resume", str(folder)]).wait() == 0
    assert runs.read(folder)["result"]["steps"] > 10


def events(folder):
    path = folder / "events.jsonl"
    return path.read_text() if path.exists() else ""


def test_what_cannot_be_taught_says_why(work, tmp_path, monkeypatch, capsys):
    def sentence(**values):
        config = {"rasters": [str(work["raster"])], "boxes": str(work["boxes"]), **QUICK, **values}
        return refused(tmp_path, monkeypatch, capsys, "finetune_boxes", **config)

    points = write_boxes(work["folder"] / "points.gpkg", [shapely.Point(WEST + 5, NORTH - 5)], kind="Point")
    assert "no polygon" in sentence(boxes=str(points))
    assert "no polygon" in sentence(boxes=str(points), class_field="class")
    far = write_boxes(work["folder"] / "far.gpkg", [on_map(9000, 9000, 16)])
    assert "outside" in sentence(boxes=str(far))
    tiny = write_boxes(work["folder"] / "tiny.gpkg", [on_map(50, 50, 1), on_map(80, 80, 1.5)])
    assert "less than 2 pixels" in sentence(boxes=str(tiny))
    large = write_boxes(work["folder"] / "large.gpkg", [on_map(50, 50, 120), on_map(150, 50, 16)])
    assert "larger 'Window'" in sentence(boxes=str(large))
    corner = f"{WEST},{NORTH - 2},{WEST + 2},{NORTH}"
    assert "No box lies in the area" in sentence(area=corner)


def test_models_of_the_other_kind_are_refused(work, tmp_path, monkeypatch, capsys):
    raster = str(work["raster"])
    head = make_model(work["folder"] / "head.safetensors", raster)
    sentence = refused(tmp_path, monkeypatch, capsys, "detect_objects", raster=raster, model=str(head))
    assert "maps classes" in sentence
    assert "Teach Objects from Boxes" in sentence
    sentence = refused(tmp_path, monkeypatch, capsys, "segment", raster=raster, model=str(work["model"]))
    assert "Find Objects" in sentence
    config = {"raster": raster, "model": str(work["model"]), "largest": 0.5}
    assert "smaller than 2 pixels" in refused(tmp_path, monkeypatch, capsys, "detect_objects", **config)


def test_command_line_is_the_same_as_the_form(work, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ["detect_objects", "--raster", str(work["raster"]), "--model", str(work["model"])]
    assert cli.main([*arguments, "--least-score", "0.9", "--run", str(tmp_path / "run")]) == 0
    assert Path(tmp_path / "run" / "outputs" / "objects.gpkg").exists()
