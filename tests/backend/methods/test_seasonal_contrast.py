"""MoCo v2 in three spaces, as SeCo has them."""

import copy
import json
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
import torch
from rsfm import cli, model_file, runs
from rsfm.blocks.seasonal_contrast import draw_seasons
from rsfm.encoders.resnet import Layout, ResNet, ResNetConfig
from rsfm.errors import UserError
from rsfm.jobs.pretrain import PretrainConfig
from rsfm.method import Dates, Sample
from rsfm.methods.moco_v2 import MoCoV2, MoCoV2Config
from rsfm.training.window_source import open_windows
from torch import Tensor
from torch.nn import functional

SEASONS = next(preset.values for preset in MoCoV2.presets if preset.name == "moco_v2_seasons")


def tiny(**config: Any) -> MoCoV2:
    """A narrow ResNet for two bands; the slow averages differ from what they follow, as after some training."""
    torch.manual_seed(0)
    values = {"queue": 24, "dimension": 8, "view_size": 32, "spaces": "three", **config}
    method = MoCoV2(MoCoV2Config(**values), ResNet(ResNetConfig(), 2, Layout("basic", (1, 1, 1, 1), (8, 8, 16, 16))))
    with torch.no_grad():
        for slow, _ in method.averages_of():
            for parameter in slow.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
    return method.train()


def pictures(count: int = 5) -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(count, 2, 32, 32, generator=generator) for _ in range(4)]


def dated(count: int = 6, dates: int = 3) -> Sample:
    generator = torch.Generator().manual_seed(5)
    pixels = torch.randn(count, dates, 2, 40, 40, generator=generator)
    valid = torch.ones(count, dates, 40, 40, dtype=torch.bool)
    told = Dates(pixels, valid, torch.zeros(count, dates, 3, dtype=torch.long), torch.zeros(count, 2))
    return Sample(pixels[:, 0], valid[:, 0], torch.ones(count), told)


def test_logits_of_each_space_are_those_of_a_slow_version_and_its_key_enters_its_queue():
    method = tiny()
    query, *keys = pictures()
    slow = copy.deepcopy(method)
    found = method.compare_seasons(query, *keys)
    slow.move_average()
    features = slow.encoder.embedding(query)
    keyed = [slow.key_encoder.embedding(key) for key in keys]
    for number, (space, logits) in enumerate(zip(slow.spaces, found, strict=True)):
        others = [key for key in range(3) if number and key != number]
        assert logits.shape == (5, 1 + 24 + 5 * len(others))
        for row in range(5):
            mine = functional.normalize(space.projection(features[row]), dim=0)
            candidates = [functional.normalize(space.key_projection(keyed[number][row]), dim=0)]
            candidates += list(space.negatives.queue.T)
            candidates += [
                functional.normalize(space.key_projection(keyed[key][other]), dim=0)
                for key in others
                for other in range(5)
            ]
            expected = torch.stack([mine @ candidate for candidate in candidates]) / 0.2
            torch.testing.assert_close(logits[row], expected, atol=1e-5, rtol=1e-5)
        entered = functional.normalize(space.key_projection(keyed[number]), dim=1).T
        torch.testing.assert_close(method.spaces[number].negatives.queue[:, :5], entered, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(method.spaces[number].negatives.queue[:, 5:], space.negatives.queue[:, 5:])


def test_averages_of_encoder_and_all_heads_move_once_for_a_step_of_the_optimizer():
    method = tiny(momentum=0)
    before = copy.deepcopy(method)
    method.compare_seasons(*pictures())
    for (slow, fast), (_, was) in zip(method.averages_of(), before.averages_of(), strict=True):
        for average, parameter, old in zip(slow.parameters(), fast.parameters(), was.parameters(), strict=True):
            assert torch.equal(average, parameter)
            assert torch.equal(parameter, old)
    assert len(list(method.averages_of())) == 4
    kept = copy.deepcopy(method.key_encoder.state_dict())
    with torch.no_grad():
        next(method.encoder.parameters()).add_(1)
    method.compare_seasons(*pictures())  # no step of the optimizer in between
    assert all(torch.equal(kept[key], value) for key, value in method.key_encoder.named_parameters())


def test_three_dates_are_drawn_with_replacement_and_none_that_is_mostly_nodata():
    sample = dated(3000, 3)
    assert sample.dates is not None
    pixels = torch.arange(3.0)[None, :, None, None, None].expand(3000, 3, 1, 4, 4)
    valid = torch.ones(3000, 3, 4, 4, dtype=torch.bool)
    valid[1500:, 2] = False
    torch.manual_seed(0)
    seasons = draw_seasons(sample._replace(dates=sample.dates._replace(pixels_BTCHW=pixels, valid_BTHW=valid)))
    drawn_B3 = torch.stack([window.pixels_BCHW[:, 0, 0, 0] for window in seasons.windows], dim=1).long()
    counts = torch.bincount(drawn_B3[:1500] @ torch.tensor([9, 3, 1]), minlength=27)
    assert (counts - 1500 / 27).abs().max() < 4 * (1500 / 27) ** 0.5  # each of the 27 orders is as likely
    assert drawn_B3[1500:].max() == 1
    assert seasons.alone == 0


def test_share_of_windows_of_one_date_is_told_and_they_are_seen_on_it_alone():
    sample = dated(4, 2)
    assert sample.dates is not None
    sample.dates.valid_BTHW[:1, 1] = False
    sample.dates.valid_BTHW[1] = False  # no date of it can be learned from
    torch.manual_seed(0)
    seasons = draw_seasons(sample)
    assert seasons.alone == 0.5
    for window in seasons.windows:
        assert torch.equal(window.pixels_BCHW[:2], sample.pixels_BCHW[:2])
    assert draw_seasons(sample._replace(dates=None)).alone == 1


def test_the_query_is_never_changed_in_colour(monkeypatch):
    method = tiny(view_size=40)
    sample = dated(dates=1)  # one date: all views are of the window, and a crop of all of it is the window
    compared: list[tuple[Tensor, ...]] = []
    compare = method.compare_seasons
    monkeypatch.setattr(method, "compare_seasons", lambda *views: compared.append(views) or compare(*views))
    method.loss(sample, 0.0)
    query, both_blind, season_blind, light_blind = compared[0]
    assert torch.equal(query, sample.pixels_BCHW)
    assert torch.equal(season_blind, sample.pixels_BCHW)
    assert not torch.equal(both_blind, sample.pixels_BCHW)
    assert not torch.equal(light_blind, sample.pixels_BCHW)


def test_three_spaces_with_another_choice_of_views_is_refused():
    for other in ("other_date", "other_sensor"):
        with pytest.raises(ValueError, match="Three spaces choose dates and views themselves"):
            MoCoV2Config(spaces="three", **{other: True})


def test_preset_learns_from_plain_rasters_of_several_dates(tmp_path, make_raster):
    random = np.random.default_rng(0)
    paths = [
        make_raster(random.integers(1, 255, (3, 96, 96)).astype("uint8"), f"{year}.tif") for year in (2009, 2015, 2020)
    ]
    flags = ["--preset", "moco_v2_seasons", "--rasters", json.dumps([str(path) for path in paths])]
    small = ["--training.minutes", "0", "--training.samples", "24", "--training.batch-size", "8", "--device", "cpu"]
    code = cli.main(["pretrain", *flags, *small, "--learning-map", "false", "--run", str(tmp_path / "run")])
    assert code == 0
    lines = (tmp_path / "run" / "events.jsonl").read_text(encoding="utf-8").splitlines()
    values = [event for event in map(json.loads, lines) if event["type"] == "metric"]
    assert {event["value"] for event in values if event["name"] == "one_date"} == {0.0}
    assert {"contrast", "contrast_of_seasons", "contrast_of_light"} <= {event["name"] for event in values}
    file = model_file.load(str(next((tmp_path / "run" / "outputs").glob("*.safetensors"))))
    assert file.card.method["spaces"] == "three"


def test_preset_refuses_rasters_of_one_date(tmp_path, make_raster):
    path = make_raster(np.ones((3, 96, 96), "uint8"), "2009.tif")
    config = PretrainConfig.model_validate({**SEASONS, "rasters": [str(path)]})
    with ExitStack() as stack:
        source = open_windows(config, stack)
        method = MoCoV2(config.method, ResNet(ResNetConfig(), 3, Layout("basic", (1, 1, 1, 1), (8, 8, 16, 16))))
        with pytest.raises(UserError, match="'Three' under 'Spaces' compares dates") as caught:
            source.batches(method, runs.Run(runs.create(tmp_path, "pretrain", "test", {})))
    assert caught.value.field == "rasters"
