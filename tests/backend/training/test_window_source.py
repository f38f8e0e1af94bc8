"""Pretraining on collections, from the files to the model."""

import json
from contextlib import ExitStack

import numpy as np
import pytest
import rasterio
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.transform import from_origin
from rsfm import cli, runs
from rsfm.errors import UserError
from rsfm.jobs.pretrain import PretrainConfig
from rsfm.method import Dates, Sample
from rsfm.model_file import load
from rsfm.raster.collection import Collection, save
from rsfm.raster.decoded_cache import DecodedCache
from rsfm.raster.plain_entry import plain_entry
from rsfm.raster.reader import open_raster
from rsfm.runs import Run
from rsfm.training import checkpoint_writer, loop
from rsfm.training.prefetch import Prefetch
from rsfm.training.pretraining import build_method
from rsfm.training.window_source import open_windows
from safetensors.torch import load_file

GASSL = {
    "method": {"name": "gassl", "views": "quick", "view_size": 16, "queue": 64},
    "encoder": {"name": "conv_small", "width": 32},
}
TEMPORAL = {
    "method": {"name": "satmae", "decoder_width": 24, "decoder_told": 12, "decoder_depth": 1, "dates": 3},
    "encoder": {
        "name": "vit_temporal", "size": "free", "width": 48, "depth": 1, "heads": 3, "patch_size": 8, "time_width": 24,
        "window": 16,
    },
}  # fmt: skip
TRAINING = {"minutes": 0, "epochs": 2, "batch_size": 8}


@pytest.fixture
def make_collection(make_raster, tmp_path):
    """Write rasters of noise at dates and places into a collection."""

    def make(days, corners=((500000, 5100000),), name="all", **changes):
        entries = []
        for place, corner in enumerate(corners):
            for number, day in enumerate(days):
                pixels = np.random.default_rng((number, place)).integers(1, 3000, (2, 64, 64)).astype("uint16")
                path = make_raster(pixels, f"{name}_{place}_{number}.tif", transform=from_origin(*corner, 10, 10))
                with open_raster(str(path)) as raster:
                    entries.append(plain_entry(raster).model_copy(update={"date": day, **changes}))
        path = tmp_path / f"{name}.collection.json"
        save(path, Collection(name=name, entries=tuple(entries)))
        return str(path)

    return make


def config_of(values, *paths, **more):
    return PretrainConfig.model_validate({"rasters": list(paths), "window": 16, "training": TRAINING, **values, **more})


def pretrain(tmp_path, values, *paths, name="run", **more):
    file = tmp_path / f"{name}.json"
    file.write_text(config_of(values, *paths, **more).model_dump_json())
    assert cli.main(["run", "pretrain", str(file), "--run", str(tmp_path / name)]) == 0
    return tmp_path / name


def said(folder):
    return (folder / "events.jsonl").read_text()


@pytest.mark.parametrize("values", [GASSL, TEMPORAL], ids=["gassl", "satmae"])
def test_methods_of_dates_learn_from_a_collection_and_several_dates_reach_them(tmp_path, make_collection, values):
    path = make_collection(["2015-07-11", "2016-12-12", "2017-02-20"])
    config = config_of(values, path)
    with ExitStack() as stack:
        source = open_windows(config, stack)
        method = build_method(config.method, config.encoder, source.bands)
        sample = source.batches(method, Run(tmp_path)).learn(0)
    assert sample.dates.pixels_BTCHW.shape == (8, method.dates, 2, 16, 16)
    torch.testing.assert_close(sample.dates.pixels_BTCHW[:, 0], sample.pixels_BCHW)
    codes = {(13, 6, 10), (14, 11, 10), (15, 1, 10)}
    for times in sample.dates.time_BT3.tolist():
        assert len({tuple(time) for time in times}) == method.dates
        assert {tuple(time) for time in times} <= codes
    assert sample.dates.place_B2[:, 0].numpy() == pytest.approx(46.05, abs=0.01)
    assert torch.equal(sample.valid_BHW, torch.ones(8, 16, 16, dtype=torch.bool))
    folder = pretrain(tmp_path, values, path)
    assert runs.read(folder)["result"]["steps"] == 12
    assert load(str(folder / "outputs" / "encoder.safetensors")).card.band_names == ("Band 1", "Band 2")
    assert "one date only" not in said(folder)


@pytest.mark.parametrize("values", [GASSL, TEMPORAL], ids=["gassl", "satmae"])
def test_one_date_is_learned_from_and_it_is_said(tmp_path, make_collection, values):
    folder = pretrain(tmp_path, values, make_collection(["2015-07-11"]))
    assert "Each window has one date only" in said(folder)


def test_a_method_without_dates_gets_none_from_a_collection(tmp_path, make_collection):
    config = config_of({"method": {"name": "mae"}, "encoder": {"name": "vit"}}, make_collection(["2020-01-01"] * 2))
    with ExitStack() as stack:
        source = open_windows(config, stack)
        method = build_method(config.method, config.encoder, source.bands)
        assert source.batches(method, Run(tmp_path)).learn(3).dates is None


def test_a_collection_without_dates_is_refused_where_they_are_learned_from(make_collection, tmp_path, capsys):
    file = tmp_path / "config.json"
    file.write_text(config_of(TEMPORAL, make_collection(["2020-01-01", None])).model_dump_json())
    assert cli.main(["run", "pretrain", str(file), "--run", str(tmp_path / "run")]) != 0
    assert "The date of 1 of 2 rasters is not known" in capsys.readouterr().err


@pytest.mark.parametrize("readers", [1, 4])
@pytest.mark.parametrize("collected", [True, False], ids=["collection", "plain raster"])
@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**31 - 1))
def test_windows_are_the_same_whatever_the_threads_that_read_them(tmp_path, make_collection, readers, collected, seed):
    path = make_collection(["2020-01-01", "2020-02-01"])
    config = config_of({**GASSL, "seed": seed}, path if collected else str(tmp_path / "all_0_0.tif"))
    with ExitStack() as stack:
        source = open_windows(config, stack)
        batch = source.batches(build_method(config.method, config.encoder, 2), Run(tmp_path)).learn
        with Prefetch(batch, 0, 0) as plain, Prefetch(batch, 0, readers) as ahead:
            for _ in range(10):
                for part, other in zip(flat(plain.take()), flat(ahead.take()), strict=True):
                    assert torch.equal(part, other)


def flat(sample: Sample) -> list[torch.Tensor]:
    assert isinstance(sample.dates, Dates)
    return [*sample[:3], *sample.dates]


class Interrupted(Exception):
    """Ends a training as if the power had gone, after a checkpoint."""


@pytest.mark.parametrize("values", [GASSL, TEMPORAL], ids=["gassl", "satmae"])
def test_a_resumed_run_on_dates_gives_the_weights_of_an_uninterrupted_one(
    tmp_path, make_collection, values, monkeypatch
):
    corners = [(500000 + 12000 * number, 5100000) for number in range(8)]
    path = make_collection(["2015-07-11", "2016-12-12"], corners)
    whole = pretrain(tmp_path, values, path, name="whole")
    copy_of = checkpoint_writer.snapshot

    def stop_in_the_middle(training, position):
        if position.step == 6:
            raise Interrupted
        return copy_of(training, position)

    monkeypatch.setattr(checkpoint_writer, "snapshot", stop_in_the_middle)
    file = tmp_path / "part.json"
    often = {**TRAINING, "checkpoint_minutes": 0}
    file.write_text(config_of(values, path, training=often).model_dump_json())
    assert cli.main(["run", "pretrain", str(file), "--run", str(tmp_path / "part")]) != 0
    monkeypatch.undo()
    assert cli.main(["resume", str(tmp_path / "part")]) == 0
    ours, theirs = (load_file(tmp_path / name / "outputs" / "encoder.safetensors") for name in ("part", "whole"))
    assert runs.read(whole)["result"]["steps"] > 10
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_places_are_clustered_and_their_centres_kept_with_the_model(tmp_path, make_collection):
    corners = [(300000 + 9000 * (n % 20), 4900000 + 9000 * (n // 20)) for n in range(60)]
    path = make_collection(["2015-07-11", "2016-12-12"], corners)
    values = {**GASSL, "method": {**GASSL["method"], "learn_places": True}}
    folder = pretrain(tmp_path, values, path, training={**TRAINING, "epochs": 1, "batch_size": 256})
    centres_K3 = load_file(folder / "outputs" / "encoder.safetensors")["method.centres_KD"]
    assert len(centres_K3) >= 5
    torch.testing.assert_close(centres_K3.norm(dim=1), torch.ones(len(centres_K3), dtype=torch.float64))
    assert "'Learn places' is off" not in said(folder)
    assert '"place"' in said(folder)
    narrow = pretrain(tmp_path, values, make_collection(["2015-07-11", "2016-12-12"], name="one"), name="narrow")
    assert "'Learn places' is off" in said(narrow)
    assert "method.centres_KD" not in load_file(narrow / "outputs" / "encoder.safetensors")


def test_an_area_is_understood_in_the_crs_of_the_first_raster(make_collection, make_raster, tmp_path):
    first = make_collection(["2020-01-01"], name="utm")
    pixels = np.ones((2, 64, 64), np.uint16) + np.arange(64, dtype=np.uint16)
    degrees = make_raster(pixels, "degrees.tif", "EPSG:4326", transform=from_origin(15, 46.0536, 1.3e-4, 9e-5))
    far = make_raster(pixels, "far.tif", transform=from_origin(700000, 5100000, 10, 10))
    area = "500100,5099600,500500,5099900"
    with ExitStack() as stack:
        source = open_windows(config_of(GASSL, first, str(degrees), str(far), area=area), stack)
        assert source.names == ("utm_0_0.tif", "degrees.tif")
        assert source.windows == pytest.approx(2 * 40 * 30 / 256, abs=2)
        with pytest.raises(UserError, match="outside the raster"):
            open_windows(config_of(GASSL, first, area="0,0,10,10"), stack)


def learned(config, tmp_path, step=0):
    with ExitStack() as stack:
        source = open_windows(config, stack)
        return source.batches(build_method(config.method, config.encoder, source.bands), Run(tmp_path)).learn(step)


@pytest.mark.parametrize("sampling", [{}, {"max_invalid": 0.0}], ids=["untouched", "touched"])
def test_sampling_rules_hold_for_plain_rasters_too(make_raster, tmp_path, sampling):
    pixels = np.random.default_rng(0).integers(1, 99, (2, 64, 64)).astype(np.uint16)
    pixels[:, :, :32] = 5
    config = config_of(GASSL, str(make_raster(pixels)), sampling=sampling)
    assert (learned(config, tmp_path).pixels_BCHW.flatten(1).std(1) > 0.1).all()
    flat_too = config_of(GASSL, str(make_raster(pixels)), sampling={**sampling, "skip_flat": False})
    batches = [learned(flat_too, tmp_path, step) for step in range(4)]
    assert any((batch.pixels_BCHW.flatten(1).std(1) < 0.1).any() for batch in batches)


def test_a_changed_rule_changes_no_window_that_keeps_it(make_raster, tmp_path):
    path = str(make_raster(np.random.default_rng(0).integers(1, 99, (2, 64, 64)).astype(np.uint16)))
    plain = learned(config_of(GASSL, path), tmp_path)
    strict = learned(config_of(GASSL, path, sampling={"max_invalid": 0.0, "max_cloud": 0.5}), tmp_path)
    assert torch.equal(plain.pixels_BCHW, strict.pixels_BCHW)


def test_plain_rasters_are_learned_from_as_stored_and_radar_too(make_raster, tmp_path):
    pixels = np.random.default_rng(0).normal(-12, 2, (2, 64, 64)).astype(np.float32)
    path = make_raster(pixels)
    with rasterio.open(path, "r+") as file:
        file.descriptions = ("VV", "VH")
    with ExitStack() as stack:
        source = open_windows(config_of(GASSL, str(path), sampling={"max_invalid": 0.0}), stack)
        assert source.statistics.mean == pytest.approx((-12, -12), abs=0.2)
        assert not source.units


def test_plain_rasters_meet_by_name_or_else_by_the_order_of_their_bands(make_raster, tmp_path):
    values = np.arange(64, dtype=np.uint16)[:, None] + np.array([1000, 2000], np.uint16)[:, None, None] + np.zeros(64)
    paths = [make_raster(values.astype(np.uint16), f"{number}.tif") for number in range(2)]

    def means():
        with ExitStack() as stack:
            return open_windows(config_of(GASSL, *map(str, paths)), stack).statistics.mean

    def describe(path, *names):
        with rasterio.open(path, "r+") as file:
            file.descriptions = names

    assert means() == pytest.approx((1031.5, 2031.5))
    describe(paths[0], "red", "nir")
    assert means() == pytest.approx((1031.5, 2031.5))
    describe(paths[1], "nir", "red")
    assert means() == pytest.approx((1531.5, 1531.5))
    describe(paths[0], "grey", "grey")
    assert means() == pytest.approx((1031.5, 2031.5))
    three = make_raster(np.ones((3, 64, 64), np.uint16), "three.tif")
    with ExitStack() as stack, pytest.raises(UserError, match=r"'0.tif' has 2 bands but 'three.tif' has 3"):
        open_windows(config_of(GASSL, str(paths[0]), str(three)), stack)


def test_a_method_of_known_dates_takes_plain_rasters_as_one_date(make_raster, tmp_path):
    pixels = np.random.default_rng(0).integers(1, 99, (2, 64, 64)).astype(np.uint16)
    paths = [str(make_raster(pixels + number, f"{number}.tif")) for number in range(2)]
    assert learned(config_of(TEMPORAL, *paths), tmp_path).dates is None


@pytest.mark.parametrize("kept", [1, 2])
def test_rasters_decoded_on_disk_give_the_same_weights_and_are_gone_afterwards(
    tmp_path, make_raster, monkeypatch, kept
):
    tiles = {"tiled": True, "blockxsize": 32, "blockysize": 32, "compress": "deflate"}
    arrays = [np.random.default_rng(seed).integers(1, 3000, (2, 64, 64)).astype("uint16") for seed in range(2)]
    paths = [str(make_raster(pixels, f"{seed}.tif", **tiles)) for seed, pixels in enumerate(arrays)]
    plain = pretrain(tmp_path, GASSL, *paths, name="plain")
    used = []
    take = DecodedCache.cell
    monkeypatch.setattr(DecodedCache, "cell", lambda *asked: used.append(take(*asked)) or used[-1])
    room = 64 * 64 * 5 * kept / 1e9
    folder = pretrain(tmp_path, GASSL, *paths, name="disk", sampling={"cache_gb": room})
    assert any(cell is not None for cell in used)
    assert any(cell is None for cell in used) == (kept == 1)
    assert ("1 of 2 raster(s) did not fit" in said(folder)) == (kept == 1)
    assert not (folder / "decoded").exists()
    ours, theirs = (load_file(path / "outputs" / "encoder.safetensors") for path in (folder, plain))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_broken_collection_says_so(tmp_path):
    path = tmp_path / "x.collection.json"
    path.write_text(json.dumps({"name": "x", "entries": [{"colour": 1}]}))
    with ExitStack() as stack, pytest.raises(UserError, match="is not a collection of this version"):
        open_windows(config_of(GASSL, str(path)), stack)
    save(path, Collection(name="x"))
    with ExitStack() as stack, pytest.raises(UserError, match="holds no raster to learn from"):
        open_windows(config_of(GASSL, str(path)), stack)


@pytest.mark.parametrize("values", [GASSL, TEMPORAL], ids=["gassl", "satmae"])
def test_validating_changes_nothing_that_is_learned(tmp_path, make_collection, values, monkeypatch):
    corners = [(500000 + 640 * number, 5100000) for number in range(10)]
    path = make_collection(["2015-07-11", "2016-12-12"], corners)
    sampling = {"held_out": 0.3, "held_out_block": 700}
    weights = {}
    for seconds in (-1, float("inf")):
        monkeypatch.setattr(loop, "VALIDATE_EVERY_SECONDS", seconds)
        training = {**TRAINING, "epochs": 1, "batch_size": 16}
        folder = pretrain(tmp_path, values, path, name=f"every{seconds}", sampling=sampling, training=training)
        weights[seconds] = load_file(folder / "outputs" / "encoder.safetensors")
        assert ('"validation_loss"' in said(folder)) == (seconds < 0)
    assert all(torch.equal(weights[-1][name], weights[float("inf")][name]) for name in weights[-1])


def test_a_block_smaller_than_a_window_is_refused(make_collection):
    path = make_collection(["2020-01-01"])
    with ExitStack() as stack, pytest.raises(UserError, match="A held-out block of 100 m is smaller than a window"):
        open_windows(config_of(GASSL, path, sampling={"held_out": 0.2, "held_out_block": 100}), stack)
