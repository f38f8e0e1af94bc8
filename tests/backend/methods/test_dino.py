"""DINO against the authors' numbers, against plain formulas, and its pitfalls one by one."""

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from rsfm.blocks.drop_path import SampleDropPath
from rsfm.blocks.multicrop import in_passes, usable
from rsfm.blocks.positions import scale_positions
from rsfm.blocks.projection import ProjectionHead, Prototypes
from rsfm.blocks.schedules import climb, ease, warmup_cosine_inclusive
from rsfm.blocks.view import View
from rsfm.encoders.conv_small import ConvSmall, ConvSmallConfig
from rsfm.encoders.vit_learned import ViTLearned, ViTLearnedConfig
from rsfm.methods.dino import DINO, DINOConfig
from rsfm.training.config import TrainingConfig
from rsfm.training.optimizer import clip_each, make_optimizer
from torch import Tensor

from tests.backend.methods.distillation_case import write_distillation_case
from tests.backend.methods.golden_run import authors_folder, change, failures

OFFICIAL = next(preset.values for preset in DINO.presets if preset.name == "dino_official")
CASES = {
    "four_bands_late": {
        "seed": 1, "dim": 24, "depth": 2, "heads": 2, "patch": 4, "global_px": 20, "local_px": 8, "batch": 4,
        "bands": 4, "locals": 2, "prototypes": 21, "hidden": 16, "bottleneck": 8, "fixed_norm": 0,
        "epoch": 3, "warmup": 5, "epochs": 7, "freeze": 1, "first_temp": 0.03, "last_temp": 0.09, "clip": 0.05,
        "lr": 0.2, "wd": 0.3,
        "momentum": 0.9, "temp": 0.2, "keep": 0.8, "infer": (12, 28),
    },
    "one_band_frozen": {
        "seed": 2, "dim": 16, "depth": 3, "heads": 4, "patch": 8, "global_px": 24, "local_px": 16, "batch": 2,
        "bands": 1, "locals": 5, "prototypes": 9, "hidden": 8, "bottleneck": 4, "fixed_norm": 1,
        "epoch": 0, "warmup": 0, "epochs": 3, "freeze": 2, "first_temp": 0.05, "last_temp": 0.05, "clip": 0,
        "lr": 0.05, "wd": 0.0,
        "momentum": 0.5, "temp": 0.1, "keep": 0.5, "infer": (40, 24),
    },
    "no_local_views_thirteen_bands": {
        "seed": 3, "dim": 12, "depth": 1, "heads": 3, "patch": 2, "global_px": 8, "local_px": 4, "batch": 3,
        "bands": 13, "locals": 0, "prototypes": 30, "hidden": 20, "bottleneck": 6, "fixed_norm": 0,
        "epoch": 1, "warmup": 2, "epochs": 4, "freeze": 2, "first_temp": 0.02, "last_temp": 0.04, "clip": 3,
        "lr": 0.01, "wd": 0.1,
        "momentum": 0.99, "temp": 0.1, "keep": 0.9, "infer": (8, 6),
    },
}  # fmt: skip


def tiny(bands: int = 3, encoder: Any = None, **config: Any) -> DINO:
    """A small method whose teacher differs from its student, as after some training."""
    torch.manual_seed(0)
    encoder = encoder or ViTLearned(ViTLearnedConfig(patch_size=4, window=16, width=24, depth=2, heads=2), bands)
    values = {"large_size": 16, "small_size": 8, "small_views": 2, "prototypes": 12, "hidden": 16, "bottleneck": 8}
    method = DINO(DINOConfig(**{**values, "drop_path": 0, "freeze": 0, **config}), encoder)
    with torch.no_grad():
        for value in [*method.teacher.parameters(), *method.teacher_head.parameters()]:
            value.add_(0.05 * torch.randn_like(value))
        method.centre.center.normal_(std=0.1)
    return method.train()


def views(count: int = 3, bands: int = 3, sizes: tuple[int, ...] = (16, 16, 8, 8)) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(count, bands, size, size, generator=generator) for size in sizes]


def all_usable(given: list[Tensor]) -> Tensor:
    return torch.ones(len(given), len(given[0]), dtype=torch.bool)


def logits(method: DINO, side: str, given: list[Tensor]) -> Tensor:
    encoder, head = (method.encoder, method.head) if side == "student" else (method.teacher, method.teacher_head)
    return torch.stack([head(encoder.embedding(view)) for view in given]).detach()


def test_every_array_of_the_authors_is_compared_and_within_its_tolerance(capsys):
    assert failures(authors_folder("dino"), capsys) == []


@pytest.mark.parametrize("name", sorted(CASES))
def test_other_sizes_are_what_plain_formulas_give(name, tmp_path, capsys):
    write_distillation_case(tmp_path / f"dino_{name}", CASES[name])
    assert failures(tmp_path / f"dino_{name}", capsys) == []


@pytest.mark.parametrize(
    "wrong", ["loss_terms", "center_after", "grad/head.mlp.0.bias", "sgd_after/backbone.norm.bias", "ema_param_sums"]
)
def test_one_changed_number_is_found(wrong, tmp_path, capsys):
    folder = tmp_path / "dino_wrong"
    write_distillation_case(folder, CASES["four_bands_late"])
    change(folder, wrong, -1 if wrong != "loss_terms" else 1)
    assert [line.split()[0] for line in failures(folder, capsys)] == [wrong]


def test_dino_1_centre_is_used_before_it_moves_and_moves_by_raw_logits():
    method, given = tiny(centre_momentum=0.7), views()
    before, raw = method.centre.center.clone(), logits(method, "teacher", given[:2])
    found = method.compare(given, all_usable(given), 1.0)
    torch.testing.assert_close(found.probabilities_QBK, torch.softmax((raw - before) / 0.07, dim=2))
    torch.testing.assert_close(method.centre.center, 0.7 * before + 0.3 * raw.flatten(0, 1).mean(0))


def test_dino_1_teacher_follows_the_student_that_was_just_updated():
    method, given = tiny(momentum=0.75), views()
    optimizer = torch.optim.SGD([value for value in method.parameters() if value.requires_grad], lr=0.5)
    before = copy.deepcopy(method.teacher)
    method.compare(given, all_usable(given), 0.0).total.backward()
    optimizer.step()
    method.after_step(0.0)
    pairs = zip(method.teacher.parameters(), before.parameters(), method.encoder.parameters(), strict=True)
    for ours, old, new in pairs:
        torch.testing.assert_close(ours, 0.75 * old + 0.25 * new)


@pytest.mark.parametrize("small", [0, 1, 4])
def test_dino_2_loss_is_the_mean_over_pairs_of_different_views(small):
    method = tiny(small_views=small)
    given = views(sizes=(16, 16) + (8,) * small)
    student = torch.log_softmax(logits(method, "student", given) / 0.1, dim=2)
    found = method.compare(given, all_usable(given), 1.0)
    terms = [
        -(found.probabilities_QBK[q] * student[v]).sum(1).mean() for q in (0, 1) for v in range(len(given)) if q != v
    ]
    assert len(terms) == 2 * small + 2
    torch.testing.assert_close(found.total, torch.stack(terms).mean())


def test_dino_3_each_tensor_is_clipped_by_itself():
    parameters = [torch.nn.Parameter(torch.zeros(4)) for _ in range(3)]
    for parameter, length in zip(parameters[:2], (0.5, 40.0), strict=True):
        parameter.grad = torch.full((4,), length / 2)
    clip_each(parameters, 3.0)
    assert parameters[0].grad.norm().item() == pytest.approx(0.5)
    assert parameters[1].grad.norm().item() == pytest.approx(3.0, rel=1e-6)
    assert parameters[2].grad is None


def test_dino_4_frozen_prototypes_have_no_gradient_and_do_not_decay():
    method, given = tiny(freeze=0.1, norm_last_layer=False), views()
    optimizer = make_optimizer(method, TrainingConfig(weight_decay=0.5, learning_rate=0.1, decay_all=True))
    before = {name: value.clone() for name, value in method.head.named_parameters()}
    method.compare(given, all_usable(given), 0.05).total.backward()
    optimizer.step()
    for name, value in method.head.named_parameters():
        assert torch.equal(value, before[name]) == name.startswith("last_layer"), name
    optimizer.zero_grad()
    method.compare(given, all_usable(given), 0.1).total.backward()
    assert method.head.last_layer.weight_v.grad.abs().sum() > 0


@pytest.mark.parametrize(("rows", "columns"), [(3, 3), (6, 9), (4, 8), (2, 8)])
def test_dino_5_positions_are_scaled_by_a_factor_with_a_tenth_added(rows, columns):
    table = torch.randn(1, 17, 6, generator=torch.Generator().manual_seed(0))
    ours = scale_positions(table, (rows, columns), rows == columns)
    grid = table[:, 1:].mT.unflatten(2, (4, 4))
    by_size = torch.nn.functional.interpolate(grid, size=(rows, columns), mode="bicubic").flatten(2).mT
    assert ours.shape == (1, 1 + rows * columns, 6)
    assert torch.equal(ours[:, 0], table[:, 0])
    assert (ours[:, 1:] - by_size).abs().max() > 1e-3


def test_dino_5_stored_positions_are_taken_for_their_own_square_only():
    table = torch.randn(1, 17, 6)
    assert scale_positions(table, (4, 4), True) is table
    assert not torch.equal(scale_positions(table, (2, 8), False), table)


def test_dino_6_results_are_crop_major_and_views_of_a_size_pass_together():
    given, calls = views(sizes=(16, 16, 8, 8, 8)), []

    def mean(pixels: Tensor) -> Tensor:
        calls.append(len(pixels))
        return pixels.mean((2, 3))

    found = in_passes(mean, given)
    assert calls == [6, 9]
    for index, view in enumerate(given):
        torch.testing.assert_close(found[index], view.mean((2, 3)))


def test_dino_7_prototypes_are_as_long_as_their_g_and_g_is_trained_only_if_asked():
    for fixed in (True, False):
        head = tiny(norm_last_layer=fixed).head
        assert head.last_layer.weight_g.requires_grad is not fixed
        with torch.no_grad():
            head.last_layer.weight_v.mul_(7)
        assert head(torch.randn(50, 24)).abs().max() <= 1 + 1e-6  # g is 1 and the features are of length 1


def test_prototypes_start_as_a_linear_layer_does():
    weight = ProjectionHead(24, 16, 25, 2000, True).last_layer.weight_v
    assert weight.abs().max().item() == pytest.approx(0.2, rel=0.01)  # uniform within 1 / sqrt(25)
    assert weight.std().item() == pytest.approx(0.2 / math.sqrt(3), rel=0.02)


def test_prototypes_take_the_names_of_the_newer_weight_normalisation():
    linear = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(5, 7, bias=False))
    with torch.no_grad():
        linear.parametrizations.weight.original0.uniform_(1, 2)
    ours = Prototypes(5, 7, True)
    ours.load_state_dict(linear.state_dict())
    unit = torch.randn(4, 5)
    torch.testing.assert_close(ours(unit), linear(unit))
    assert set(ours.state_dict()) == {"weight_g", "weight_v"}


def test_dino_8_class_token_positions_and_prototypes_decay_and_biases_and_norms_do_not():
    method = tiny(norm_last_layer=False)
    optimizer = make_optimizer(method, TrainingConfig.model_validate(OFFICIAL["training"]))
    decays = {id(value): group["weight_decay"] for group in optimizer.param_groups for value in group["params"]}
    for name in ("encoder.cls_token", "encoder.pos_embed", "head.last_layer.weight_v", "head.last_layer.weight_g"):
        assert decays[id(method.get_parameter(name))] == 0.04
    for name, value in method.named_parameters():
        if value.requires_grad and value.ndim == 1:
            assert decays[id(value)] == 0, name
        assert (id(value) in decays) is value.requires_grad, name


def test_dino_9_teacher_leaves_no_branch_out_and_the_student_more_the_deeper():
    encoder = ViTLearned(ViTLearnedConfig(patch_size=4, window=16, width=24, depth=3, heads=2), 3)
    method = tiny(encoder=encoder, drop_path=0.4)
    drops = (block.drop_path1 for block in method.encoder.blocks)
    rates = [drop.rate for drop in drops if isinstance(drop, SampleDropPath)]
    assert rates == [0.2, 0.4]
    assert not any(isinstance(module, SampleDropPath) for module in method.teacher.modules())


def test_dino_9_teacher_of_a_convolutional_encoder_uses_the_statistics_of_its_batch_and_keeps_its_own_buffers():
    method = tiny(encoder=ConvSmall(ConvSmallConfig(width=32), 3))
    given = views(sizes=(16, 16, 16, 16))
    assert method.teacher.training
    method.compare(given, all_usable(given), 0.0).total.backward()
    name = "stem.1.running_mean"
    teacher, student = method.teacher.get_buffer(name).clone(), method.encoder.get_buffer(name)
    assert teacher.abs().sum() > 0
    method.after_step(0.0)
    assert torch.equal(method.teacher.get_buffer(name), teacher)
    assert not torch.allclose(teacher, student)


def test_dino_10_temperature_is_constant_in_an_epoch_and_momentum_is_not():
    steps = np.linspace(0.04, 0.07, 30)
    for epoch in range(300):
        for inside in (0, 0.5, 0.999):
            value = climb((epoch + inside) / 300, 0.1, 0.04, 0.07, 30)
            assert value == pytest.approx(steps[epoch] if epoch < 30 else 0.07)
    assert ease(0.5, 0.996, 1) == pytest.approx(0.998)
    assert ease(0.5, 0.996, 1) != ease(0.5 + 1e-4, 0.996, 1)


def test_schedules_include_both_ends_of_the_warm_up_and_never_quite_end():
    rates = [warmup_cosine_inclusive(step, 1300, 130, 1e-3, 1e-6) for step in range(1300)]
    assert rates[0] == 0
    assert rates[129] == rates[130] == 1e-3
    assert 1e-6 < rates[-1] < 1.01e-6
    assert 1 - ease(1299 / 1300, 0.996, 1) == pytest.approx(5.8e-9, rel=0.02)


@pytest.mark.parametrize("epochs", [1, 2, 5])
def test_short_training_reaches_the_last_temperature_and_the_full_learning_rate(epochs):
    method, steps = OFFICIAL["method"], 10 * epochs
    every = [
        climb(step / steps, method["temperature_share"], 0.04, 0.07, method["temperature_steps"])
        for step in range(steps)
    ]
    assert every[0] == 0.04
    assert every[-1] == 0.07
    assert OFFICIAL["training"]["warmup"] <= 0.1


@pytest.mark.parametrize("part", ["centre.center", "teacher.cls_token", "teacher_head.mlp.0.weight"])
def test_dino_11_a_restart_needs_centre_and_teacher(part):
    method, given = tiny(), views()
    state = method.state_dict()
    assert part in state
    restored = tiny()
    with torch.no_grad():
        restored.load_state_dict({**state, part: state[part] + 0.5 * torch.randn_like(state[part])})
    totals = [one.compare(given, all_usable(given), 0.5).total.item() for one in (method, restored)]
    assert totals[0] != totals[1]


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_dino_13_loss_is_computed_in_float32(precision):
    method, given = tiny(prototypes=4096), views()
    exact = tiny(prototypes=4096).compare(given, all_usable(given), 0.5).total.item()
    with torch.autocast("cpu", precision):
        found = method.compare(given, all_usable(given), 0.5)
    assert found.total.dtype == found.probabilities_QBK.dtype == method.centre.center.dtype == torch.float32
    assert found.total.item() == pytest.approx(exact, rel=2e-2)


def test_views_of_mostly_nodata_count_nowhere():
    method, given = tiny(), views()
    kept = all_usable(given)
    kept[:, 0] = False
    before = method.centre.center.clone()
    found = method.compare(given, kept, 1.0)
    fewer = [view[1:] for view in given]
    again = tiny()
    torch.testing.assert_close(found.total, again.compare(fewer, all_usable(fewer), 1.0).total)
    torch.testing.assert_close(method.centre.center, again.centre.center)
    method.centre.center.copy_(before)
    nothing = method.compare(given, torch.zeros_like(kept), 1.0)
    nothing.total.backward()
    assert nothing.total.item() == 0
    assert torch.equal(method.centre.center, before)


def test_a_view_is_usable_from_half_valid_on():
    valid = torch.ones(3, 4, 4, dtype=torch.bool)
    valid[0, :2] = False
    valid[1, :3] = False
    assert usable([View(torch.zeros(3, 1, 4, 4), valid)]).tolist() == [[True, False, True]]


@pytest.mark.parametrize("small", [0, 3])
def test_views_have_their_sizes_and_nodata_stays_nodata(small):
    torch.manual_seed(0)
    method = tiny(2, small_views=small)
    pixels, valid = torch.rand(4, 2, 40, 40) + 5, torch.ones(4, 40, 40, dtype=torch.bool)
    valid[:, :20] = False
    drawn = method.draw(View(pixels * valid[:, None], valid))
    assert [view.pixels_BCHW.shape[-1] for view in drawn] == [16, 16] + [8] * small
    for view in drawn:
        assert not (view.pixels_BCHW * ~view.valid_BHW[:, None]).any()
        assert view.pixels_BCHW[view.valid_BHW[:, None].expand_as(view.pixels_BCHW)].mean() > 0


def test_a_student_learns_the_groups_of_its_teacher():
    method, given = tiny(momentum=1, centre_momentum=1), views(16)
    optimizer = torch.optim.AdamW([value for value in method.parameters() if value.requires_grad], lr=1e-2)
    excess = []
    for step in range(40):
        found = method.compare(given, all_usable(given), 1.0)
        sure = -(found.probabilities_QBK * found.probabilities_QBK.clamp(min=1e-9).log()).sum(2).mean()
        excess.append((found.total - sure).item())  # the divergence of student and teacher, 0 if they agree
        optimizer.zero_grad()
        found.total.backward()
        clip_each(method.parameters(), 3.0)
        optimizer.step()
        method.after_step(step / 40)
    assert excess[0] > 1
    assert excess[-1] < 0.5 * excess[0]
