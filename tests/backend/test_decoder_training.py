"""Teaching a decoder and mapping with it, with the jobs themselves: two textures of one colour, told apart."""

import json
import subprocess
import sys
import time

import numpy as np
import pyogrio.raw
import pytest
import rasterio
import shapely
import torch
from affine import Affine
from rsfm import model_file, runs
from rsfm.networks import DecoderNetwork, head_network
from rsfm.raster.reader import open_raster

from .test_bad_input import refused
from .toy_model import pixels, run_job, write_config

SIDE = 160
TRANSFORM = Affine(10, 0, 500000, 0, -10, 5100000)
TRAINING = {"minutes": 0, "epochs": 24, "batch_size": 4, "learning_rate": 2e-3, "beta2": 0.999, "clip_norm": 5}
LINEAR = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
HEADS = {
    "upernet": {"name": "upernet", "channels": 16, "auxiliary_channels": 8},
    "dpt": {"name": "dpt", "channels": 16},
}


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Stripes on the left, noise of the same values on the right, a corner of nodata, and 16 polygons."""
    folder = tmp_path_factory.mktemp("decoders")
    random = np.random.default_rng(0)
    stripes_HW = np.where(np.arange(SIDE)[None] % 4 < 2, 600, 1400) + np.zeros((SIDE, 1))
    noise_HW = np.where(random.random((SIDE, SIDE)) < 0.5, 600, 1400)
    value_HW = np.where(np.arange(SIDE)[None] < SIDE // 2, stripes_HW, noise_HW)
    pixels_CHW = (value_HW + random.normal(0, 40, (3, SIDE, SIDE))).astype("uint16")
    pixels_CHW[:, :20, :30] = 0
    raster = folder / "textures.tif"
    shape = {"count": 3, "height": SIDE, "width": SIDE, "dtype": "uint16", "nodata": 0}
    with rasterio.open(raster, "w", driver="GTiff", crs="EPSG:32633", transform=TRANSFORM, **shape) as target:
        target.write(pixels_CHW)
    boxes = [(row, column) for row in range(24, 150, 34) for column in (10, 44, 90, 130)]
    return {"folder": folder, "raster": raster, "labels": write(folder / "labels.gpkg", boxes)}


def write(path, boxes):
    shapes = [shapely.box(column, row, column + 14, row + 14) for row, column in boxes]
    shapes = shapely.transform(np.array(shapes, object), lambda at: at * [10, -10] + [500000, 5100000])
    names = np.array(["stripes" if column < SIDE // 2 else "noise" for _, column in boxes], object)
    pyogrio.raw.write(path, shapely.to_wkb(shapes), [names], ["class"], geometry_type="Polygon", crs="EPSG:32633")
    return str(path)


def teach(work, name, head, **config):
    values = {"raster": str(work["raster"]), "labels": work["labels"], "head": HEADS[head], "training": TRAINING}
    values |= {"window": 64, "learning": {"zoom": 1}, "device": "cpu", **config}
    outputs = run_job(work["folder"], "finetune", name, **values)
    result = json.loads((outputs.parent / "run.json").read_text())["result"]
    return outputs / "model.safetensors", result


@pytest.fixture(scope="module")
def taught(work):
    return teach(work, "upernet", "upernet", training={**TRAINING, "epochs": 80})


def test_upernet_learns_what_pixels_cannot_tell_and_is_compared_on_held_out_blocks(work, taught):
    path, result = taught
    scores = result["mean_iou_blocks"]
    assert set(scores) == {"upernet", "pixels", "texture", "untrained"}
    assert scores["upernet"] > 0.8 > scores["pixels"]
    assert f"UPerNet {scores['upernet']:.2f}" in result["sentence"]
    assert f"pixels {scores['pixels']:.2f}" in result["sentence"]
    assert ("does better" in result["sentence"]) == (max(scores.values()) > scores["upernet"])
    assert sum(sum(row.values()) for row in result["confusion"].values()) > 100
    card = model_file.read_card(str(path))
    assert card.head == {"name": "upernet", "channels": 16, "fusion_channels": 0, "auxiliary_channels": 8,
                         "auxiliary_weight": 0.4}  # fmt: skip
    assert card.window == 64
    assert card.provenance["step"] > 0
    assert (path.parent / "split.gpkg").exists()


@pytest.mark.parametrize("window", [32, 64])
def test_a_decoder_is_judged_by_own_polygons_as_its_map_has_them(work, tmp_path, window):
    corners = [(2, 64), (2, 82)]
    check = write(tmp_path / "check.gpkg", corners)
    name = f"own_{window}"
    path, result = teach(work, name, "upernet", training={**TRAINING, "epochs": 60}, validation=check, window=window)
    assert result["split"] == "The scores come from the 2 polygons of 'check.gpkg', your own."
    assert set(result["mean_iou_blocks"]) == {"upernet", "pixels", "texture", "untrained"}
    config = {"raster": str(work["raster"]), "model": str(path), "device": "cpu"}
    classes_HW = pixels(run_job(work["folder"], "segment", f"{name}_map", **config) / "segmentation.tif")[0]
    card = model_file.read_card(str(path))
    assert card.window == 64  # a window of 32 px is a single cell of the coarsest map
    names = [each.name for each in card.classes]
    for truth, (row, column) in zip(("stripes", "noise"), corners, strict=True):
        seen = np.bincount(classes_HW[row : row + 14, column : column + 14].ravel() - 1, minlength=2)
        assert result["confusion"][truth] == dict(zip(names, seen.tolist(), strict=True))


def test_the_map_of_upernet_is_right_keeps_nodata_and_an_area_is_its_crop(work, taught):
    config = {"raster": str(work["raster"]), "model": str(taught[0]), "device": "cpu",
              "tiling": {"tile_size": 64, "tile_overlap": 32}}  # fmt: skip
    whole = run_job(work["folder"], "segment", "whole", **config)
    classes_HW = pixels(whole / "segmentation.tif")[0]
    names = [each.name for each in model_file.read_card(str(taught[0])).classes]
    assert (classes_HW[:20, :30] == 255).all()
    assert (classes_HW == 255).sum() == 600
    assert (classes_HW[30:, 8:70] == names.index("stripes") + 1).mean() > 0.9
    assert (classes_HW[:, 90:150] == names.index("noise") + 1).mean() > 0.9
    area = "500450,5098700,501200,5099500"
    part = run_job(work["folder"], "segment", "part", **config, area=area)
    np.testing.assert_array_equal(pixels(part / "segmentation.tif")[0], classes_HW[50:130, 45:120])
    np.testing.assert_array_equal(pixels(part / "confidence.tif"), pixels(whole / "confidence.tif")[:, 50:130, 45:120])


def test_a_saved_decoder_gives_what_the_learned_one_gave(work, taught):
    network = head_network(model_file.load(str(taught[0])))
    assert isinstance(network, DecoderNetwork)
    assert (network.stride, network.margin, network.multiple) == (1, None, 32)
    with open_raster(str(work["raster"])) as raster:
        pixels_CHW, valid_HW = raster.read(raster.grid.window)
    given = torch.from_numpy(pixels_CHW)[None], torch.from_numpy(valid_HW)[None]
    with torch.inference_mode():
        logits = network(*given)
        again = head_network(model_file.load(str(taught[0])))(*given)
    assert logits.shape == (1, 2, SIDE, SIDE)
    assert torch.equal(logits, again)


def test_dpt_learns_on_a_transformer_with_adapters_that_the_file_no_longer_has(work, tmp_path):
    encoder = {"name": "vit", "width": 24, "depth": 4, "heads": 2, "patch_size": 4, "window": 32}
    start = write_encoder(tmp_path / "encoder.safetensors", work["raster"], encoder)
    learning = {"zoom": 1, "encoder": "adapters", "rank": 2, "dice": 0.3, "loss": "focal", "drop_path": 0.1}
    path, result = teach(work, "dpt", "dpt", model=str(start), learning=learning, training={**TRAINING, "epochs": 2})
    assert result["chosen"] == "pretrained"
    assert set(result["mean_iou_blocks"]) == {"dpt", "pixels", "texture", "untrained", "pretrained"}
    before, after = (model_file.load(str(each)).encoder().state_dict() for each in (start, path))
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert moved <= {f"blocks.{n}.{part}.weight" for n in range(4) for part in LINEAR}
    config = {"raster": str(work["raster"]), "model": str(path), "device": "cpu"}
    run_job(work["folder"], "segment", "dpt_map", **config)


def write_encoder(path, raster, encoder):
    from rsfm.model_file import Card, build_encoder
    from rsfm.raster.statistics import band_statistics

    torch.manual_seed(0)
    with open_raster(str(raster)) as opened:
        statistics = band_statistics([opened], [opened.grid.window], 0)
        card = Card(bands=opened.bands, statistics=statistics, gsd=10, encoder=encoder)
    model_file.save(path, card, model_file.parts(encoder=build_encoder(encoder, 3)))
    return path


def test_stopped_teaching_leaves_a_model_and_goes_on_to_the_same_end(work, tmp_path):
    values = {"raster": str(work["raster"]), "labels": work["labels"], "head": HEADS["upernet"], "window": 32,
              "device": "cpu", "training": {**TRAINING, "epochs": 3}}  # fmt: skip
    folder = tmp_path / "stopped"
    process = start(["run", "finetune", str(write_config(tmp_path, "c", **values)), "--run", str(folder)])
    while process.poll() is None and '"metric"' not in events(folder):
        time.sleep(0.02)
    runs.request_end(folder, "stop")
    assert process.wait() == 0
    assert runs.read(folder)["state"] == "stopped"
    stopped = model_file.load(str(folder / "outputs" / "model.safetensors"))
    assert head_network(stopped).outputs == 2
    assert start(["resume", str(folder)]).wait() == 0
    expected = run_job(tmp_path, "finetune", "whole", **values) / "model.safetensors"
    ours, theirs = (model_file.load(str(path)).tensors for path in (folder / "outputs" / "model.safetensors", expected))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def start(command):
    return subprocess.Popen([sys.executable, "-m", "rsfm", *command], stderr=subprocess.DEVNULL)


def events(folder):
    path = folder / "events.jsonl"
    return path.read_text(encoding="utf-8") if path.exists() else ""


@pytest.mark.parametrize(
    ("change", "said"),
    [({"features": "texture"}, "reads the maps of an encoder"), ({"features": "pretrained"}, "no pretrained encoder")],
)
def test_features_that_no_decoder_can_read_are_refused(work, change, said, tmp_path, monkeypatch, capsys):
    values = {"raster": str(work["raster"]), "labels": work["labels"], "head": HEADS["dpt"], **change}
    assert said in refused(tmp_path, monkeypatch, capsys, "finetune", **values)


def test_a_decoder_is_no_head_for_whole_polygons(taught):
    from rsfm.errors import UserError

    with pytest.raises(UserError, match="reads the maps of its encoder"):
        model_file.load(str(taught[0])).head(8)
