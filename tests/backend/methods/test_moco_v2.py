"""The pitfalls of MoCo v2, one by one; the numbers of the authors' code are in test_golden.py."""

import copy
import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rsfm import cli, model_file, runs
from rsfm.blocks.momentum_contrast import contrast
from rsfm.blocks.schedules import cosine_by_epoch
from rsfm.blocks.views import turned_crop
from rsfm.encoders.resnet import Layout, ResNet, ResNetConfig
from rsfm.errors import UserError
from rsfm.jobs.pretrain import PretrainConfig
from rsfm.method import Dates, Sample
from rsfm.methods.moco_v2 import MoCoV2, MoCoV2Config
from rsfm.training.config import TrainingConfig
from rsfm.training.optimizer import learning_rate, make_optimizer
from rsfm.training.window_source import open_windows
from torch import Tensor
from torch.nn import functional

CHANGE = next(preset.values for preset in MoCoV2.presets if preset.name == "moco_v2_change")
OFFICIAL = next(preset.values for preset in MoCoV2.presets if preset.name == "moco_v2_official")


def tiny(**config: Any) -> MoCoV2:
    """A narrow ResNet for two bands; the key encoder differs from the encoder, as after some training."""
    torch.manual_seed(0)
    values = {"queue": 24, "dimension": 8, "view_size": 32, **config}
    method = MoCoV2(MoCoV2Config(**values), ResNet(ResNetConfig(), 2, Layout("basic", (1, 1, 1, 1), (8, 8, 16, 16))))
    with torch.no_grad():
        for parameter in [*method.key_encoder.parameters(), *method.key_projection.parameters()]:
            parameter.add_(0.05 * torch.randn_like(parameter))
    return method.train()


def views(count: int = 8, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    first_BCHW = torch.randn(count, 2, 32, 32, generator=generator)
    return first_BCHW, first_BCHW + 0.3 * torch.randn(count, 2, 32, 32, generator=generator) + 0.5


def unit(encoder: Any, projection: Any, pixels_BCHW: Tensor) -> Tensor:
    return functional.normalize(projection(encoder.embedding(pixels_BCHW)), dim=1)


def test_moco_M1_average_moves_before_the_keys_are_made():
    method = tiny(momentum=0)
    query, key = views()
    before = copy.deepcopy(method)
    method.compare(query, key)
    expected = unit(before.encoder, before.projection, key)  # momentum 0: the encoder's own weights
    torch.testing.assert_close(method.negatives.queue[:, :8].T, expected)


def test_moco_M2_average_covers_parameters_and_not_the_statistics_of_batch_norm():
    method = tiny(momentum=0.5)
    query, key = views()
    before = copy.deepcopy(method)
    method.compare(query, key)
    name = "layer2.0.conv1.weight"
    expected = (before.encoder.get_parameter(name) + before.key_encoder.get_parameter(name)) / 2
    torch.testing.assert_close(method.key_encoder.get_parameter(name), expected)
    before.key_encoder.load_state_dict(dict(method.key_encoder.named_parameters()), strict=False)
    before.key_encoder.embedding(key)
    for (name, ours), theirs in zip(method.key_encoder.named_buffers(), before.key_encoder.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs, msg=name)


def test_moco_M3_logits_use_the_queue_before_the_new_keys_enter():
    method = tiny(momentum=1)
    query, key = views()
    before = copy.deepcopy(method)
    logits = method.compare(query, key)
    others = unit(before.encoder, before.projection, query) @ before.negatives.queue / 0.2
    torch.testing.assert_close(logits[:, 1:], others)
    assert not torch.equal(method.negatives.queue, before.negatives.queue)


def test_moco_M4_keys_enter_the_queue_as_unit_columns_and_the_pointer_wraps():
    method = tiny(momentum=1)
    query, key = views()
    expected = unit(method.key_encoder, method.key_projection, key)
    places = []
    for _ in range(4):
        method.compare(query, key)
        places.append(method.negatives.queue_ptr.item())
    assert places == [8, 16, 0, 8]
    torch.testing.assert_close(method.negatives.queue.T, expected.repeat(3, 1))
    torch.testing.assert_close(method.negatives.queue.norm(dim=0), torch.ones(24))


@pytest.mark.parametrize("count", [5, 8, 24, 30])
def test_moco_M5_queue_need_not_be_a_multiple_of_the_batch(count):
    method = tiny(momentum=1)
    query, key = views(count)
    expected = unit(method.key_encoder, method.key_projection, key)
    method.compare(query, key)
    method.compare(query, key)
    place = torch.arange(2 * count) % 24
    wanted = torch.full((24, 8), torch.nan)
    for index, column in enumerate(place.tolist()):
        wanted[column] = expected[index % count]
    filled = ~wanted[:, 0].isnan()
    torch.testing.assert_close(method.negatives.queue.T[filled], wanted[filled])
    assert method.negatives.queue_ptr.item() == 2 * count % 24


def test_moco_M6_temperature_divides_every_logit_once():
    warm, cold = tiny(temperature=0.4), tiny(temperature=0.1)
    torch.testing.assert_close(warm.compare(*views()) * 4, cold.compare(*views()))


def test_moco_M7_matching_key_is_class_0():
    method = tiny(momentum=0, temperature=1)
    query, _ = views()
    logits = method.compare(query, query)  # momentum 0 and the same view: query and key are equal
    torch.testing.assert_close(logits[:, 0], torch.ones(8))
    expected = torch.stack([-torch.log_softmax(row, 0)[0] for row in logits]).mean()
    torch.testing.assert_close(contrast(logits), expected)


def test_moco_M8_projection_has_two_biased_layers_and_no_norm_and_the_keys_start_equal():
    encoder = ResNet(ResNetConfig(), 2, Layout("basic", (1, 1, 1, 1), (8, 8, 16, 16)))
    method = MoCoV2(MoCoV2Config(dimension=8), encoder)
    shapes = {name: tuple(value.shape) for name, value in method.projection.state_dict().items()}
    assert shapes == {"0.weight": (16, 16), "0.bias": (16,), "2.weight": (8, 16), "2.bias": (8,)}
    for ours, theirs in ((method.key_encoder, method.encoder), (method.key_projection, method.projection)):
        for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert torch.equal(one, other)
            assert not one.requires_grad


def test_moco_M9_official_recipe_decays_norms_and_biases_too():
    method = tiny()
    optimizer = make_optimizer(method, TrainingConfig.model_validate(OFFICIAL["training"]))
    decayed = {
        id(value) for group in optimizer.param_groups if group["weight_decay"] == 1e-4 for value in group["params"]
    }
    assert decayed == {id(value) for value in method.parameters() if value.requires_grad}


def test_moco_M10_learning_rate_is_constant_inside_an_epoch_and_the_same_after_a_restart():
    config = TrainingConfig.model_validate(OFFICIAL["training"])
    for epoch in (0.0, 0.5, 3.99, 7.25):
        rate = learning_rate(config, epoch / 10, 10)
        assert rate == pytest.approx(0.03 * cosine_by_epoch(epoch, 10))
        assert rate == pytest.approx(learning_rate(config, int(epoch) / 10, 10))
    assert cosine_by_epoch(0, 10) == 1


def test_moco_M11_shuffling_changes_nothing_for_one_group_and_something_for_two():
    order = torch.randperm(8, generator=torch.Generator().manual_seed(3))
    one, shuffled = tiny().compare(*views()), tiny().compare(*views(), order)
    torch.testing.assert_close(one, shuffled, atol=1e-5, rtol=1e-5)
    two = tiny(bn_groups=2).compare(*views(), order)
    other = tiny(bn_groups=2).compare(*views(), torch.arange(8))
    assert (two[:, 0] - one[:, 0]).abs().max() > 1e-3
    assert (two[:, 0] - other[:, 0]).abs().max() > 1e-3


def test_moco_M11_keys_come_back_in_the_order_of_their_queries():
    order = torch.randperm(8, generator=torch.Generator().manual_seed(3))
    grouped, plain = tiny(bn_groups=2).eval(), tiny().eval()  # without batch statistics the groups change nothing
    torch.testing.assert_close(grouped.compare(*views(), order), plain.compare(*views()))
    torch.testing.assert_close(grouped.negatives.queue, plain.negatives.queue)


def test_moco_M12_comparison_is_exact_under_mixed_precision():
    method = tiny()
    with torch.autocast("cpu", torch.bfloat16):
        logits = method.compare(*views())
    assert logits.dtype == method.negatives.queue.dtype == torch.float32
    torch.testing.assert_close(method.negatives.queue.norm(dim=0), torch.ones(24), atol=1e-6, rtol=0)


@pytest.mark.parametrize("part", ["negatives.queue", "negatives.queue_ptr", "key_encoder.conv1.weight"])
def test_moco_M13_a_restart_needs_queue_pointer_and_key_encoder(part):
    method = tiny(momentum=0.99)
    method.compare(*views())
    assert part in method.state_dict()
    restored = tiny(momentum=0.99)
    restored.load_state_dict({**method.state_dict(), part: restored.state_dict()[part]})
    for candidate in (method, restored):
        candidate.compare(*views(seed=2))
    same = torch.equal(method.negatives.queue, restored.negatives.queue)
    assert not same, "the part does not matter"


def test_moco_M14_two_views_of_a_window_are_independent_draws():
    torch.manual_seed(0)
    ramp_BCHW = torch.arange(40.0).expand(600, 1, 40, 40)
    valid_BHW = torch.ones(600, 40, 40, dtype=torch.bool)
    places = torch.stack([turned_crop(ramp_BCHW, valid_BHW, 32).pixels_BCHW.amin((1, 2, 3)) for _ in range(2)])
    assert places.min() == 0
    assert places.max() == 8
    assert torch.corrcoef(places)[0, 1].abs() < 0.15


def test_moco_M15_accumulated_gradients_move_the_average_once_and_the_queue_each_time():
    method = tiny(momentum=0.5)
    weight = method.key_encoder.get_parameter("conv1.weight")
    start = weight.clone()
    method.compare(*views())
    once = weight.clone()
    method.compare(*views(seed=2))
    assert not torch.equal(start, once)
    assert torch.equal(weight, once)
    assert method.negatives.queue_ptr.item() == 16
    method.after_step(0)
    method.compare(*views(seed=3))
    assert not torch.equal(weight, once)


def test_state_between_accumulated_gradients_knows_that_the_average_has_moved():
    method = tiny(momentum=0.5)
    method.compare(*views())
    restored = tiny(momentum=0.5)
    restored.load_state_dict(method.state_dict())
    weight = restored.key_encoder.get_parameter("conv1.weight").clone()
    restored.compare(*views(seed=2))
    assert torch.equal(restored.key_encoder.get_parameter("conv1.weight"), weight)


def test_training_brings_two_views_of_a_place_together():
    method = tiny(queue=64, momentum=0.9)
    optimizer = torch.optim.AdamW([value for value in method.parameters() if value.requires_grad], lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    found = []
    for _ in range(80):
        tint_BC11 = 2 * torch.randn(16, 2, 1, 1, generator=generator)
        windows_BCHW = tint_BC11 + torch.randn(16, 2, 40, 40, generator=generator)
        loss = method.loss(Sample(windows_BCHW, torch.ones(16, 40, 40, dtype=torch.bool), torch.ones(16)), 0)
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        method.after_step(0)
        found.append(loss.total.item())
    assert sum(found[-10:]) / 10 < sum(found[5:15]) / 10 - 0.8


@pytest.mark.parametrize(("config", "said"), [({"view_size": 48}, "View size"), ({"bn_groups": 5}, "Batch size")])
def test_what_cannot_be_split_or_cut_is_said(config, said):
    sample = Sample(torch.randn(8, 2, 40, 40), torch.ones(8, 40, 40, dtype=torch.bool), torch.ones(8))
    with pytest.raises(UserError, match=said):
        tiny(**config).loss(sample, 0)


def two_dates(count: int = 8) -> Sample:
    """Windows of which the second date is another picture than the first."""
    generator = torch.Generator().manual_seed(5)
    pixels = torch.randn(count, 2, 2, 40, 40, generator=generator)
    valid = torch.ones(count, 2, 40, 40, dtype=torch.bool)
    dates = Dates(pixels, valid, torch.zeros(count, 2, 3, dtype=torch.long), torch.zeros(count, 2))
    return Sample(pixels[:, 0], valid[:, 0], torch.ones(count), dates)


def changed_at(method: MoCoV2, date: int) -> bool:
    """Tell whether the loss depends on the pixels of a date."""
    totals = []
    for factor in (1.0, 3.0):
        given = two_dates()
        assert given.dates is not None
        given.dates.pixels_BTCHW[:, date] *= factor
        torch.manual_seed(0)
        totals.append(copy.deepcopy(method).loss(given, 0.0).total)
    return not torch.equal(*totals)


def test_positive_is_the_same_place_on_the_other_date_where_that_is_asked_for():
    assert changed_at(tiny(other_date=True), 1)
    assert not changed_at(tiny(other_date=False), 1)
    assert changed_at(tiny(other_date=False), 0)
    assert (tiny(other_date=True).dates, tiny(other_date=False).dates) == (2, 1)


def test_share_of_windows_without_another_date_is_told():
    given = two_dates()
    assert given.dates is not None
    given.dates.valid_BTHW[:2, 1] = False
    assert tiny(other_date=True).loss(given, 0.0).parts["one_date"] == 0.25


def change_run(tmp_path: Path, *rasters: Path) -> Path:
    """Pretrain a few steps by the preset for change, as the command line does."""
    flags = ["--preset", "moco_v2_change", "--rasters", json.dumps([str(path) for path in rasters])]
    small = ["--training.minutes", "0", "--training.samples", "16", "--training.batch-size", "8", "--device", "cpu"]
    code = cli.main(["pretrain", *flags, *small, "--learning-map", "false", "--run", str(tmp_path / "run")])
    assert code == 0
    return tmp_path / "run"


def test_preset_for_change_learns_from_two_plain_rasters(tmp_path, make_raster):
    random = np.random.default_rng(0)
    rasters = [
        make_raster(random.integers(1, 255, (3, 96, 96)).astype("uint8"), f"{year}.tif") for year in (2009, 2020)
    ]
    folder = change_run(tmp_path, *rasters)
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    alone = [event["value"] for event in events if event["type"] == "metric" and event["name"] == "one_date"]
    assert alone
    assert set(alone) == {0.0}
    card = model_file.load(str(next((folder / "outputs").glob("*.safetensors")))).card
    assert card.method["other_date"] is True
    assert set(card.trained_on) == {"2009.tif", "2020.tif"}


def test_preset_for_change_refuses_rasters_of_one_date(tmp_path, make_raster):
    path = make_raster(np.ones((3, 96, 96), "uint8"), "2009.tif")
    config = PretrainConfig.model_validate({**CHANGE, "rasters": [str(path)]})
    with ExitStack() as stack:
        source = open_windows(config, stack)
        method = MoCoV2(config.method, ResNet(ResNetConfig(), 3, Layout("basic", (1, 1, 1, 1), (8, 8, 16, 16))))
        folder = runs.create(tmp_path, "pretrain", "test", {})
        with pytest.raises(UserError, match="on one date only") as caught:
            source.batches(method, runs.Run(folder))
    assert caught.value.field == "rasters"
