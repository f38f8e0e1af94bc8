"""The report of a pretraining: what is in it is what happened, and it needs nothing from outside."""

import base64
import json
from contextlib import ExitStack

import numpy as np
import pytest
import torch
from rasterio.features import rasterize
from rsfm import runs
from rsfm.jobs.pretrain import PretrainConfig
from rsfm.methods import mae
from rsfm.model_file import load
from rsfm.picture_file import limits, shown_bands, stretch
from rsfm.raster.collection import Collection, save
from rsfm.raster.grid import Window
from rsfm.raster.plain_entry import plain_entry
from rsfm.raster.reader import open_raster
from rsfm.runs import Run
from rsfm.training.checkpoint import Position
from rsfm.training.pretraining import build_method
from rsfm.training.recording import Recorder
from rsfm.training.window_source import open_windows

from tests.backend.reports.conftest import VIT
from tests.backend.reports.page import check_whole, read_picture

MOCO = {"name": "moco_v2", "queue": 64}
CONV = {"name": "conv_small", "width": 32}
MAE = {"name": "mae", "decoder_width": 24, "decoder_depth": 1, "mask_ratio": 0.5}


def test_a_contrastive_run_shows_ground_curves_features_and_how_to_repeat_it(fields, pretrain):
    rasters = [fields("a.tif"), fields("b.tif", seed=1)]
    _, page = pretrain(rasters, MOCO, CONV, sampling={"held_out": 0.3, "held_out_block": 400})
    check_whole(page)
    assert {"result", "ground", "features", "attention", "machine", "outputs", "repeat"} <= set(page.sections)
    assert "reconstructions" not in page.sections  # it hides nothing
    assert "convolutions, which have no attention" in page.sections["attention"]
    maps = page.of("ground")
    assert [alt.partition(" ")[0] for alt, _ in maps] == ["a.tif", "b.tif"]
    assert all(pixels.shape == (3, 160, 200) for _, pixels in maps)
    assert "500 m" in page.sections["ground"]
    assert "held out" in page.sections["ground"]
    assert "before training it was" in page.sections["features"]
    assert all(name in page.sections["machine"] for name in ("Device", "Arithmetic", "windows a second", "GiB"))


def test_the_date_in_the_name_of_a_raster_and_what_was_learned_from_are_told(fields, pretrain):
    folder, page = pretrain([fields("field_2021-06-03.tif")], MOCO, CONV)
    assert "2021-06-03" in page.sections["ground"]
    result = json.loads((folder / "run.json").read_text())["result"]
    assert result["sentence"].startswith(f"Learned from {result['windows']:,} windows of 32 x 32 px in ")
    assert page.text.count(result["sentence"]) == 1


def test_the_outlines_are_windows_that_were_learned_from_and_touch_no_held_out_ground(fields, pretrain):
    folder, _ = pretrain([fields()], MOCO, CONV, sampling={"held_out": 0.3, "held_out_block": 400})
    ground = json.loads((folder / "shown" / "ground.json").read_text())
    (picture,) = ground["pictures"]
    assert picture["held_out"]
    shapes = [{"type": "Polygon", "coordinates": rings} for rings in picture["held_out"]]
    hatched = rasterize(shapes, (160, 200)) > 0
    assert 0.05 < hatched.mean() < 0.8
    assert ground["drawn"] == len(picture["windows"]) == ground["steps"] * ground["batch"]
    for (left, top), _, (right, bottom), _ in picture["windows"]:
        assert (right - left, bottom - top) == (32, 32)
        inside = hatched[int(top) + 4 : int(bottom) - 4, int(left) + 4 : int(right) - 4]
        assert not inside.any()  # but for the edge, which is asked every 4 pixels
        assert left < 180  # no window of nodata alone


def test_the_map_shows_the_raster_with_nodata_in_white(fields, pretrain):
    raster = fields()
    folder, _ = pretrain([raster], MOCO, CONV)
    shown_CHW = read_picture(folder / "shown" / "ground-1.jpg").astype(float)
    assert shown_CHW[:, :, 190:].min() > 225
    with open_raster(raster) as file:
        pixels_CHW, valid_HW = file.read(Window(0, 0, 160, 200))
    valid_CHW = np.broadcast_to(valid_HW, (3, 160, 200))
    expected_CHW = stretch(pixels_CHW[:3], valid_CHW, limits(pixels_CHW[None, :3], valid_CHW[None])).astype(float)
    assert np.abs(shown_CHW - expected_CHW)[:, :, :170].mean() < 6  # JPEG loses a little


@pytest.mark.parametrize("norm_pix", [True, False])
def test_mae_keeps_what_it_saw_and_rebuilds_the_rest(fields, pretrain, norm_pix):
    folder, page = pretrain([fields()], {**MAE, "norm_pix": norm_pix}, {"name": "vit", **VIT})
    check_whole(page)
    found = json.loads((folder / "shown" / "reconstructions.json").read_text())
    assert found["titles"] == ["Window", "Seen", "Rebuilt"]
    assert len(page.of("reconstructions")) == 3 * len(found["rows"]) == 15
    for row in found["rows"]:
        window_CHW, seen_CHW, rebuilt_CHW = (read_picture(folder / "shown" / file) for file in row["files"])
        assert window_CHW.shape == (3, 32, 32)
        hidden_HW = (seen_CHW == 128).all(0)
        squares = hidden_HW.reshape(4, 8, 4, 8).mean((1, 3))
        assert (squares > 0.99).sum() >= 8  # half of the patches, and those of nodata
        assert np.array_equal(window_CHW[:, ~hidden_HW], seen_CHW[:, ~hidden_HW])
        assert np.array_equal(window_CHW[:, ~hidden_HW], rebuilt_CHW[:, ~hidden_HW])
        assert not np.array_equal(window_CHW[:, hidden_HW], rebuilt_CHW[:, hidden_HW])
    heads = page.of("attention")
    assert len(heads) == 4 * (1 + 3)
    assert heads[1][1].shape == (3, 4, 4)
    assert len(page.of("features")) == 2 * 6
    assert page.of("features")[1][1].shape == (3, 4, 4)


def test_satmae_shows_every_date(fields, pretrain, tmp_path):
    entries = []
    for seed, day in enumerate(["2019-05-02", "2020-06-03", "2021-07-04"]):
        with open_raster(fields(f"{day}.tif", seed)) as raster:
            entries.append(plain_entry(raster).model_copy(update={"date": day, "sensor": "<b>Made</b>"}))
    path = tmp_path / "all.collection.json"
    save(path, Collection(name="all", entries=tuple(entries)))
    method = {"name": "satmae", "dates": 3, "decoder_width": 24, "decoder_told": 12, "decoder_depth": 1}
    folder, page = pretrain([str(path)], method, {"name": "vit_temporal", **VIT, "width": 48, "time_width": 24})
    check_whole(page)
    rows = json.loads((folder / "shown" / "reconstructions.json").read_text())["rows"]
    assert [row["date"] for row in rows[:3]] == [1, 2, 3]
    assert len(page.of("reconstructions")) == 3 * 3 * 5
    assert "Window 1, date 3" in page.sections["reconstructions"]
    assert "2020-06-03" in page.sections["ground"]
    assert "<b>Made</b>" in page.sections["ground"]  # as text
    originals = [read_picture(folder / "shown" / row["files"][0]) for row in rows[:3]]
    assert not np.array_equal(originals[0], originals[1])


@pytest.mark.parametrize(
    ("names", "bands"),
    [
        (["Band 1", "Band 2", "Band 3", "Band 4"], (0, 1, 2)),
        (["B02", "B03", "B04", "B08"], (2, 1, 0)),
        (["blue", "green", "red", "nir"], (2, 1, 0)),
        (["VV", "VH"], (0, 1, 1)),
        (["height"], (0, 0, 0)),
    ],
)
def test_natural_colours_are_shown_where_there_are_some(names, bands):
    assert shown_bands(names) == bands


def test_hostile_names_are_shown_as_they_are(fields, pretrain):
    name = "a<script>alert('1')</script>\"&\nb.tif".replace("/", "%")
    folder, page = pretrain([fields(name)], MOCO, CONV)
    check_whole(page)
    assert name in page.sections["ground"]
    assert name in page.sections["repeat"]
    (config,) = page.downloads.values()
    assert json.loads(base64.b64decode(config.partition(",")[2])) == json.loads((folder / "config.json").read_text())


def test_the_config_that_a_report_holds_makes_the_same_encoder(fields, pretrain):
    folder, page = pretrain([fields()], MOCO, CONV)
    config = json.loads(base64.b64decode(page.downloads["pretrain.json"].partition(",")[2]))
    again, _ = pretrain(config["rasters"], config["method"], config["encoder"], "again", training=config["training"])
    one, other = (load(str(path / "outputs" / "encoder.safetensors")).tensors for path in (folder, again))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_part_that_fails_is_a_sentence_and_the_run_is_done(fields, pretrain, monkeypatch):
    monkeypatch.setattr(mae.MAE, "pictures", lambda *_: 1 / 0)
    folder, page = pretrain([fields()], MAE, {"name": "vit", **VIT})
    assert runs.read(folder)["state"] == "done"
    assert "This part could not be made (ZeroDivisionError" in page.sections["reconstructions"]
    assert "features" in page.sections
    assert not page.unclosed


def test_looking_leaves_method_and_random_numbers_as_they_were(fields, tmp_path):
    values = {
        "rasters": [fields()],
        "method": {"name": "dino"},
        "encoder": {"name": "vit_learned", **VIT},
        "window": 32,
    }
    config = PretrainConfig.model_validate({**values, "training": {"batch_size": 8}})
    run = Run(runs.create(tmp_path / "runs", "pretrain", "t", {}))
    with ExitStack() as stack:
        source = open_windows(config, stack)
        method = build_method(config.method, config.encoder, source.bands)
        batches = source.batches(method, run)
        before = {name: value.clone() for name, value in method.state_dict().items()}
        random = torch.get_rng_state()
        Recorder(config, source, batches, method, "32-true", run).record(Position(3, 1.0, 24))
    assert torch.equal(random, torch.get_rng_state())
    assert method.training
    assert all(torch.equal(before[name], value) for name, value in method.state_dict().items())
    assert "rows" in json.loads((run.folder / "shown" / "attention.json").read_text())
