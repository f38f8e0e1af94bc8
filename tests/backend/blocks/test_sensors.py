"""Sensors that are missing from a view, and views of two sensors that match."""

import json
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from rsfm import cli, methods, registry
from rsfm.blocks.band_drop import ViewsMethod, find_sensors, keep_sensors
from rsfm.encoders.resnet import Layout, ResNet, ResNetConfig
from rsfm.errors import UserError
from rsfm.method import Method, Sample
from rsfm.methods.moco_v2 import MoCoV2, MoCoV2Config
from rsfm.model_file import build_encoder

NAMES = ("B2", "B3", "B4", "B8", "VV", "VH")
RADAR = torch.tensor([False] * 4 + [True] * 2)


def moco(**config: Any) -> MoCoV2:
    torch.manual_seed(0)
    return MoCoV2(
        MoCoV2Config(queue=24, dimension=8, **config),
        ResNet(ResNetConfig(), 6, Layout("basic", (1, 1, 1, 1), (8, 8, 16, 16))),
    ).train()


def seen(pixels_BCHW):
    return (pixels_BCHW != 0).any(3).any(2)


def sample(count: int = 40, side: int = 40) -> Sample:
    generator = torch.Generator().manual_seed(1)
    return Sample(
        torch.randn(count, 6, side, side, generator=generator),
        torch.ones(count, side, side, dtype=torch.bool),
        torch.full((count,), 10.0),
    )


def test_bands_are_told_apart_by_their_names():
    assert torch.equal(find_sensors(NAMES, "")[0], RADAR)
    assert torch.equal(find_sensors(NAMES, "")[1], ~RADAR)
    assert find_sensors(("sigma0_VV_db", "red", "HH"), "")[0].tolist() == [True, False, True]


@pytest.mark.parametrize(("names", "what"), [(("B2", "B3"), "all optical"), (("VV", "VH"), "all radar")])
def test_bands_of_one_sensor_are_refused(names, what):
    with pytest.raises(UserError, match=what) as caught:
        moco(other_sensor=True).tell_bands(names)
    assert caught.value.field == "method.other_sensor"
    with pytest.raises(UserError, match=what) as caught:
        moco(sensor_drop=0.5).tell_bands(names)
    assert caught.value.field == "method.sensor_drop"
    moco().tell_bands(names)


def test_either_sensor_is_missing_as_often_as_asked():
    torch.manual_seed(0)
    kept = keep_sensors(8000, 0.5, find_sensors(NAMES, ""))
    shares = [(kept == wanted).all(1).float().mean().item() for wanted in (RADAR, ~RADAR, torch.ones(6, dtype=bool))]
    assert shares == pytest.approx([0.25, 0.25, 0.5], abs=0.03)


def test_a_view_without_a_sensor_still_has_a_band_when_bands_drop_too():
    torch.manual_seed(0)
    method = moco(sensor_drop=1.0, band_drop=0.9)
    method.tell_bands(NAMES)
    kept = seen(method.drop(torch.ones(2000, 6, 2, 2)))
    assert kept.any(1).all()
    assert not ((kept & RADAR).any(1) & (kept & ~RADAR).any(1)).any()


def test_nothing_is_drawn_where_nothing_is_missing():
    method = moco()
    method.tell_bands(NAMES)
    pixels = torch.randn(3, 6, 5, 5)
    state = torch.get_rng_state()
    assert method.drop(pixels) is pixels
    assert torch.equal(torch.get_rng_state(), state)


def test_matching_views_are_of_different_sensors_and_the_query_is_of_either(monkeypatch):
    torch.manual_seed(0)
    method = moco(other_sensor=True)
    method.tell_bands(NAMES)
    compared = []
    compare = method.compare
    monkeypatch.setattr(method, "compare", lambda *views: compared.append(views) or compare(*views))
    method.loss(sample(), 0.0)
    query, key = (seen(view) for view in compared[0])
    assert torch.equal(query, ~key)
    assert ((query == RADAR).all(1) | (query == ~RADAR).all(1)).all()
    assert 0.2 < (query == RADAR).all(1).float().mean() < 0.8


@pytest.mark.parametrize("name", registry.names(methods))
def test_every_method_that_compares_views_can_lack_a_sensor(name):
    member = registry.member(methods, name, Method)
    values = member.presets[0].values
    if not issubclass(member, ViewsMethod):
        assert "sensor_drop" not in member.Config.model_fields
        pytest.skip("it compares no views")
    torch.manual_seed(0)
    config = member.Config.model_validate({**values["method"], "sensor_drop": 1.0})
    method = member(config, build_encoder(values["encoder"], 6)).train()
    method.tell_bands(NAMES)
    drawn = []
    drop = method.drop
    method.drop = lambda pixels, *rest: drawn.append(drop(pixels, *rest)) or drawn[-1]
    assert torch.isfinite(method.loss(sample(4, values["window"]), 0.5).total)
    assert len(drawn) >= 2
    for view in drawn:
        assert not ((seen(view) & RADAR).any(1) & (seen(view) & ~RADAR).any(1)).any()


def stack(make_raster, names=NAMES):
    random = np.random.default_rng(0)
    path = make_raster(random.normal(0, 1, (len(names), 96, 96)).astype("float32"), "stack.tif")
    with rasterio.open(path, "r+") as file:
        file.descriptions = names
    return path


def train(path, folder, *flags: str) -> int:
    small = ["--training.minutes", "0", "--training.samples", "16", "--training.batch-size", "8", "--device", "cpu"]
    common = ["pretrain", "--preset", "quick", "--rasters", json.dumps([str(path)]), *small, "--learning-map", "false"]
    return cli.main([*common, *flags, "--run", str(folder)])


def test_a_stack_of_both_sensors_is_learned_from_by_the_names_of_its_bands(tmp_path, make_raster, capsys):
    assert train(stack(make_raster), tmp_path / "both", "--method.other-sensor", "true") == 0
    assert train(stack(make_raster), tmp_path / "drop", "--method.sensor-drop", "0.5") == 0
    assert train(stack(make_raster, ("B2", "B3", "B4")), tmp_path / "one", "--method.other-sensor", "true") != 0
    assert "are all optical" in capsys.readouterr().err
