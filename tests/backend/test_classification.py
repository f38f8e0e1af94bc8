"""Polygons and tiles get the class that the whole features in memory give; the layer stays what it was."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyogrio.raw
import pytest
import rasterio
import shapely
import torch
from affine import Affine
from rasterio.crs import CRS
from rasterio.features import rasterize
from rsfm import model_file
from rsfm.model_file import Objects
from rsfm.networks import EncoderNetwork, head_network
from rsfm.raster.reader import open_raster
from rsfm.raster.vector_table import Column, Table, write_table

from .toy_model import make_model, pixels, run_job, write_config

HEIGHT, WIDTH = 210, 260
TILING = {"tile_size": 64, "tile_overlap": 32}
TRANSFORM = Affine(10, 0, 500000, 0, -10, 5100000)


def on_map(shape):
    return shapely.transform(shape, lambda at: at * [10, -10] + [500000, 5100000])


def write_layer(path, shapes, crs="EPSG:32633", **columns):
    wkb = np.array([None if shape is None else shapely.to_wkb(on_map(shape)) for shape in shapes], object)
    pyogrio.raw.write(path, wkb, list(columns.values()), list(columns), geometry_type="Unknown", crs=crs)
    return str(path)


def read_layer(path):
    meta, fids, wkb, data = pyogrio.raw.read(path, return_fids=True)
    return fids, wkb, dict(zip(meta["fields"], data, strict=True))


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A raster with nodata, a model of pixels, models of objects with and without spread, and a layer."""
    folder = tmp_path_factory.mktemp("classify")
    random = np.random.default_rng(0)
    coarse = np.kron(random.normal(1500, 700, (3, HEIGHT // 30, WIDTH // 26)), np.ones((30, 26)))
    pixels_CHW = (coarse + random.normal(0, 150, (3, HEIGHT, WIDTH))).clip(1, 60000).astype("uint16")
    pixels_CHW[:, 60:110, 100:170] = 0
    raster = folder / "raster.tif"
    shape = {"count": 3, "height": HEIGHT, "width": WIDTH, "dtype": "uint16", "nodata": 0}
    with rasterio.open(raster, "w", driver="GTiff", crs="EPSG:32633", transform=TRANSFORM, **shape) as target:
        target.write(pixels_CHW)
    found = {"folder": folder, "raster": raster, "pixels": make_model(folder / "pixels.safetensors", raster)}
    for name, spread in (("mean", False), ("spread", True)):
        found[name] = make_object_model(folder / f"{name}.safetensors", found["pixels"], spread)
    shapes = [shapely.Point(*random.uniform(0, 260, 2)).buffer(random.uniform(3, 40), 4) for _ in range(40)]
    shapes = [shape for shape in shapes if shapely.intersects(shape, shapely.box(1, 1, 259, 209))]
    found["shapes"] = [*shapes, shapely.box(102, 62, 168, 108), shapely.MultiPolygon([shapes[0], shapes[1].buffer(-1)])]
    found["shapes"][-1] = shapely.make_valid(found["shapes"][-1])
    found["layer"] = write_layer(folder / "layer.gpkg", found["shapes"], number=np.arange(len(found["shapes"])))
    return found


def make_object_model(path, pixels_model, spread, tile=0.0):
    model = model_file.load(str(pixels_model))
    card = model.card.model_copy(update={"objects": Objects(spread=spread, tile=tile)})
    torch.manual_seed(1)
    width = model.encoder().width * (2 if spread else 1)
    head = model_file.Model(card, {}).new_head(width)
    torch.nn.init.normal_(head.to_logits.weight)
    model_file.save(path, card, model_file.parts(encoder=model.encoder(), head=head))
    return path


def run(work, name, **config):
    config = {"raster": str(work["raster"]), "device": "cpu", "tiling": TILING, **config}
    outputs = run_job(work["folder"], "classify", name, **config)
    return outputs, json.loads((outputs.parent / "run.json").read_text())["result"]


def whole_outputs(work, model, network):
    """What a network says of the whole raster in one go, for every pixel, and which pixels are valid."""
    with open_raster(str(work["raster"])) as raster:
        pixels_CHW, valid_HW = raster.read(raster.grid.window)
    pad = -HEIGHT % 32 + 64, -WIDTH % 32 + 64
    padded_CHW = np.pad(pixels_CHW, ((0, 0), (64, pad[0]), (64, pad[1])), mode="reflect")
    padded_HW = np.pad(valid_HW, ((64, pad[0]), (64, pad[1])), mode="reflect")
    with torch.inference_mode():
        out_Khw = network(torch.from_numpy(padded_CHW)[None], torch.from_numpy(padded_HW)[None])[0].numpy()
    stride = network.stride
    whole_KHW = np.repeat(np.repeat(out_Khw, stride, 1), stride, 2)
    return whole_KHW[:, 64 : 64 + HEIGHT, 64 : 64 + WIDTH].astype("float64"), valid_HW


def expected_probabilities(work, name, masks):
    model = model_file.load(str(work[name]))
    if name == "pixels":
        logits_KHW, valid_HW = whole_outputs(work, model, head_network(model))
        share_KHW = np.exp(logits_KHW - logits_KHW.max(axis=0))
        share_KHW /= share_KHW.sum(axis=0)
        return np.array([share_KHW[:, mask_HW & valid_HW].mean(axis=1) for mask_HW in masks])
    features_KHW, valid_HW = whole_outputs(work, model, EncoderNetwork(model.encoder(), model.card.statistics).eval())
    spread = model.card.objects.spread
    rows = []
    for mask_HW in masks:
        own_KN = features_KHW[:, mask_HW & valid_HW]
        rows.append(np.r_[own_KN.mean(axis=1), own_KN.std(axis=1)] if spread else own_KN.mean(axis=1))
    weight_KD = model.tensors["head.to_logits.weight"].numpy()[:, :, 0, 0]
    logits_NK = np.array(rows) @ weight_KD.T + model.tensors["head.to_logits.bias"].numpy()
    exponents_NK = np.exp(logits_NK - logits_NK.max(axis=1, keepdims=True))
    return exponents_NK / exponents_NK.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("name", ["pixels", "mean", "spread"])
def test_polygons_get_what_the_whole_features_in_memory_give(work, name):
    outputs, result = run(work, f"slow_{name}", model=str(work[name]), polygons=work["layer"], probabilities=True)
    _, _, found = read_layer(outputs / "classified.gpkg")
    masks = [rasterize([shape], (HEIGHT, WIDTH), dtype="uint8") > 0 for shape in work["shapes"]]
    with open_raster(str(work["raster"])) as raster:
        valid_HW = raster.read(raster.grid.window)[1]
    there = np.array([bool((mask_HW & valid_HW).any()) for mask_HW in masks])
    assert not there[-2]  # lies on nodata
    expected_NK = expected_probabilities(work, name, [mask for mask, known in zip(masks, there, strict=True) if known])
    probability_NK = np.stack([found[f"p_{each}"] for each in ("one", "two", "three")], axis=1)
    np.testing.assert_allclose(probability_NK[there], expected_NK, atol=2e-4)
    assert found["predicted"][there].tolist() == [("one", "two", "three")[k] for k in expected_NK.argmax(axis=1)]
    np.testing.assert_allclose(found["confidence"][there], expected_NK.max(axis=1), atol=2e-4)
    assert found["reason"].tolist() == [None if known else "nodata" for known in there]
    assert len(set(found["predicted"][there])) > 1
    assert result["without_class"] == {"nodata": (~there).sum()}


def test_majority_is_the_share_of_each_class_in_the_map(work):
    shared = {"raster": str(work["raster"]), "model": str(work["pixels"]), "device": "cpu", "tiling": TILING}
    labels_HW = pixels(run_job(work["folder"], "segment", "map", **shared) / "segmentation.tif")[0]
    outputs, _ = run(
        work, "majority", model=str(work["pixels"]), polygons=work["layer"], vote="majority", probabilities=True
    )
    _, _, found = read_layer(outputs / "classified.gpkg")
    for number, shape in enumerate(work["shapes"]):
        inside = labels_HW[(rasterize([shape], (HEIGHT, WIDTH), dtype="uint8") > 0) & (labels_HW != 255)]
        if len(inside):
            for value, name in enumerate(("one", "two", "three"), 1):
                assert found[f"p_{name}"][number] == pytest.approx((inside == value).mean(), abs=1e-3)


@pytest.mark.parametrize("name", ["pixels", "spread"])
def test_tiles_are_the_polygons_of_their_outline_on_the_grid_of_the_raster(work, name):
    outputs, result = run(
        work, f"tiles_{name}", model=str(work[name]), tile=30, unit="pixels", tile_polygons=True, probabilities=True
    )
    with rasterio.open(outputs / "tiles.tif") as file, rasterio.open(outputs / "tiles_confidence.tif") as sure:
        assert (file.height, file.width) == (7, 9)
        assert file.transform == TRANSFORM @ Affine.scale(30)
        labels_RT, confidence_RT = file.read(1), sure.read(1)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    masks = [(rows // 30 == row) & (columns // 30 == column) for row in range(7) for column in range(9)]
    with open_raster(str(work["raster"])) as raster:
        valid_HW = raster.read(raster.grid.window)[1]
    there = np.array([bool((mask_HW & valid_HW).any()) for mask_HW in masks])
    expected_NK = expected_probabilities(work, name, [mask for mask, known in zip(masks, there, strict=True) if known])
    assert 0 < (~there).sum() < 5
    assert (labels_RT.ravel()[~there] == 255).all()
    assert labels_RT.ravel()[there].tolist() == (expected_NK.argmax(axis=1) + 1).tolist()
    np.testing.assert_allclose(confidence_RT.ravel()[there], expected_NK.max(axis=1), atol=1e-4)
    _, wkb, found = read_layer(outputs / "tiles.gpkg")
    assert len(wkb) == there.sum()
    assert shapely.bounds(shapely.from_wkb(wkb[0])).tolist() == [500000, 5099700, 500300, 5100000]
    last = valid_HW[masks[-1]].sum() / 900
    assert found["valid_share"][-1] == pytest.approx(last, abs=1e-3)
    assert result["side_m"] == 300


def test_tiles_of_an_area_are_those_of_the_whole_map(work):
    whole, _ = run(work, "whole", model=str(work["mean"]), tile=200)
    part, _ = run(work, "part", model=str(work["mean"]), tile=200, area="500450,5099000,501230,5099700")
    with rasterio.open(whole / "tiles.tif") as all_tiles, rasterio.open(part / "tiles.tif") as some:
        window = rasterio.windows.from_bounds(*some.bounds, all_tiles.transform)
        assert (all_tiles.read(1, window=window) == some.read(1)).all()
        assert some.bounds.left == 500400
        assert (some.height, some.width) == (4, 5)


def test_model_that_learnt_tiles_takes_their_side(work):
    model = make_object_model(work["folder"] / "tile.safetensors", work["pixels"], False, tile=400.0)
    _, result = run(work, "side", model=str(model))
    assert result["side_px"] == 40


def test_attributes_ids_types_and_shapes_stay_what_they_were(work, tmp_path):
    broken = shapely.Polygon([(10, 10), (40, 40), (40, 10), (10, 40)])
    shapes = [shapely.box(5, 5, 30, 30), None, broken, shapely.box(900, 900, 950, 950), shapely.Point(50, 50)]
    whole, text = np.array([3, 0, 5, 6, 7], "int32"), np.array(["Äcker", None, "b", "c", "d"], object)
    layer = tmp_path / "own.gpkg"
    wkb = np.array([None if shape is None else shapely.to_wkb(on_map(shape)) for shape in shapes], object)
    fields = {
        "fid": np.array([70, 3, 9, 4, 12]),
        "predicted": text,
        "Confidence": whole,
        "flag": np.array([True, False, True, True, False]),
        "day": np.array(["2020-01-01", "NaT", "2021-02-03", "2022-02-02", "NaT"], "datetime64[D]"),
    }
    missing = np.array([False, True, False, False, False])
    pyogrio.raw.write(
        layer, wkb, list(fields.values()), list(fields), [None, None, missing, missing, None],
        geometry_type="Unknown", crs="EPSG:32633",
    )  # fmt: skip
    outputs, result = run(work, "own", model=str(work["mean"]), polygons=str(layer))
    before, after = (pyogrio.raw.read(path, return_fids=True) for path in (layer, outputs / "classified.gpkg"))
    assert before[1].tolist() == after[1].tolist()
    assert before[2].tolist() == after[2].tolist()
    count = len(before[3])
    assert after[0]["fields"][:count].tolist() == before[0]["fields"].tolist()
    assert after[0]["ogr_types"][:count] == before[0]["ogr_types"]
    assert after[0]["ogr_subtypes"][:count] == before[0]["ogr_subtypes"]
    for mine, theirs in zip(after[3], before[3], strict=False):
        np.testing.assert_array_equal(mine, theirs)
    assert after[0]["fields"][count:].tolist() == ["predicted_2", "confidence_2", "valid_share", "reason"]
    reasons = dict(zip(after[1].tolist(), after[3][-1].tolist(), strict=True))
    assert reasons == {
        70: None, 3: "no geometry", 9: None, 4: "outside the raster", 12: "not a polygon",
    }  # fmt: skip
    assert result["field"] == "predicted_2"
    events = (outputs.parent / "events.jsonl").read_text()
    assert "1 of 5 polygons were repaired" in events
    assert "1 of 5 features of 'own.gpkg' lies outside the raster and has no class." in events


def test_layer_in_degrees_gives_the_same_classes(work, tmp_path):
    from rasterio.warp import transform_geom

    shapes = [on_map(shape) for shape in work["shapes"]]
    moved = [
        shapely.geometry.shape(transform_geom("EPSG:32633", "EPSG:4326", shapely.geometry.mapping(shape)))
        for shape in shapes
    ]
    path = tmp_path / "degrees.gpkg"
    pyogrio.raw.write(path, shapely.to_wkb(moved), [], [], geometry_type="Unknown", crs="EPSG:4326")
    metres, _ = run(work, "metres", model=str(work["mean"]), polygons=work["layer"])
    degrees, _ = run(work, "degrees", model=str(work["mean"]), polygons=str(path))
    (_, _, mine), (_, _, theirs) = (read_layer(path / "classified.gpkg") for path in (degrees, metres))
    assert mine["predicted"].tolist() == theirs["predicted"].tolist()
    np.testing.assert_allclose(mine["confidence"], theirs["confidence"], atol=1e-3)


def test_killed_run_goes_on_and_gives_the_same_table(work, tmp_path):
    whole, _ = run(work, "uninterrupted", model=str(work["spread"]), polygons=work["layer"])
    config = write_config(
        tmp_path, "config", raster=str(work["raster"]), model=str(work["spread"]), polygons=work["layer"], device="cpu",
        tiling=TILING,
    )  # fmt: skip
    folder = tmp_path / "run"
    code = (
        "import rsfm.object_pooling as p, sys, time; p.RECORD_SECONDS = 0; keep = p.Results.keep\n"
        "def slow(self, pooling, now=False):\n    keep(self, pooling, now); time.sleep(0.15)\n"
        "p.Results.keep = slow\nfrom rsfm import cli; sys.exit(cli.main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "run", "classify", str(config), "--run", str(folder)]
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL)
    record = folder / "checkpoints" / "rows" / "objects.journal"
    while process.poll() is None and not (record.exists() and np.load(record)["row"] > 8):
        time.sleep(0.02)
    process.kill()
    process.wait()
    with np.load(record) as kept:
        assert 8 < kept["row"] < 53
        assert len(kept["object_J"])  # polygons that were open
    resumed = subprocess.run([sys.executable, "-m", "rsfm", "resume", str(folder)], capture_output=True, text=True)
    assert resumed.returncode == 0, resumed.stderr
    (_, _, mine), (_, _, theirs) = (read_layer(path / "classified.gpkg") for path in (folder / "outputs", whole))
    for name, values_N in theirs.items():
        np.testing.assert_array_equal(mine[name], values_N)
    assert not [path for path in Path(folder).rglob("*") if "partial" in path.name]


def test_a_layer_of_many_features_keeps_its_ids(tmp_path):
    count = 30_000
    wkb_N = shapely.to_wkb(shapely.box(np.arange(count), 0, np.arange(count) + 1, 1))
    fid_N = np.arange(count) * 2 + 5
    table = Table("fields.gpkg", "fields", CRS.from_epsg(32633), "Polygon", wkb_N, fid_N, {}, ())
    write_table(tmp_path / "classified.gpkg", table, {"number": Column(np.arange(count))})
    _, found_N, _, (number_N,) = pyogrio.raw.read(tmp_path / "classified.gpkg", return_fids=True)
    assert np.array_equal(found_N, fid_N)
    assert np.array_equal(number_N, np.arange(count))
