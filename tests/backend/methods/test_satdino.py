"""SatDINO against the authors' numbers, against plain formulas, and its pitfalls one by one."""

import math
from typing import Any

import pytest
import torch
from rsfm.blocks.crops import cut, draw_crop, pixel_size
from rsfm.blocks.multicrop import equal_parts
from rsfm.blocks.positions import scale_positions
from rsfm.blocks.resampling import Rectangles
from rsfm.blocks.view import View
from rsfm.encoders.conv_small import ConvSmall, ConvSmallConfig
from rsfm.encoders.vit_learned import ViTLearned, ViTLearnedConfig
from rsfm.errors import UserError
from rsfm.method import Sample
from rsfm.methods.satdino import SatDINO, SatDINOConfig
from rsfm.training.config import TrainingConfig
from rsfm.training.optimizer import make_optimizer
from torch import Tensor

from tests.backend.methods.distillation_case import write_distillation_case
from tests.backend.methods.golden_run import authors_folder, change, failures

CASES = {
    "four_bands": {
        "seed": 4, "dim": 24, "depth": 2, "heads": 2, "patch": 4, "global_px": 20, "local_px": 8, "batch": 4,
        "bands": 4, "locals": 2, "prototypes": 21, "hidden": 16, "bottleneck": 8, "fixed_norm": 0, "epoch": 3,
        "warmup": 5, "epochs": 7, "freeze": 1, "first_temp": 0.03, "last_temp": 0.09, "clip": 0, "lr": 0.02, "wd": 0,
        "momentum": 0.9, "temp": 0.2, "keep": 0.8, "gamma": 0.5, "infer": (12, 16),
    },
    "one_band_frozen": {
        "seed": 5, "dim": 16, "depth": 3, "heads": 4, "patch": 8, "global_px": 56, "local_px": 16, "batch": 2,
        "bands": 1, "locals": 5, "prototypes": 9, "hidden": 8, "bottleneck": 4, "fixed_norm": 1, "epoch": 0,
        "warmup": 3, "epochs": 6, "freeze": 2, "first_temp": 0.05, "last_temp": 0.1, "clip": 0, "lr": 0.05, "wd": 0.0,
        "momentum": 0.5, "temp": 0.1, "keep": 0.5, "gamma": 0.01, "infer": (40, 24),
    },
}  # fmt: skip
SEE = {"large_size": 16, "small_size": 8, "small_views": 2, "prototypes": 12, "hidden": 16, "bottleneck": 8}


def vit(bands: int = 3, **config: Any) -> ViTLearned:
    values = {"patch_size": 4, "window": 16, "width": 24, "depth": 2, "heads": 2, "gsd_token": True}
    return ViTLearned(ViTLearnedConfig(**{**values, **config}), bands)


def tiny(bands: int = 3, **config: Any) -> SatDINO:
    torch.manual_seed(0)
    return SatDINO(SatDINOConfig(**{**SEE, "drop_path": 0, "freeze": 0, **config}), vit(bands)).train()


def views(count: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(count, 3, size, size, generator=generator) for size in (16, 16, 8, 8)]


def compare(method: SatDINO, gsd: Tensor) -> Any:
    return method.compare(views(), gsd, torch.ones(4, 3, dtype=torch.bool), 1.0)


def test_every_array_of_the_authors_is_compared_and_within_its_tolerance(capsys):
    assert failures(authors_folder("satdino"), capsys) == []


@pytest.mark.parametrize("name", sorted(CASES))
def test_other_sizes_are_what_plain_formulas_give(name, tmp_path, capsys):
    write_distillation_case(tmp_path / f"satdino_{name}", CASES[name])
    assert failures(tmp_path / f"satdino_{name}", capsys) == []


@pytest.mark.parametrize("wrong", ["gsd_loss", "gsd_pred", "sgd_after/gsd_head.gsd_head.bias_if_trained"])
def test_one_changed_number_is_found(wrong, tmp_path, capsys):
    folder = tmp_path / "satdino_wrong"
    write_distillation_case(folder, CASES["one_band_frozen"])
    change(folder, wrong)
    assert [line.split()[0] for line in failures(folder, capsys)] == [wrong]


@pytest.mark.parametrize("trained", [True, False])
def test_satdino_1_head_of_the_pixel_size_is_trained_unless_parity_is_asked_for(trained):
    method = tiny(train_gsd_head=trained)
    optimizer = make_optimizer(method, TrainingConfig(learning_rate=0.1))
    before = method.gsd_head.weight.clone()
    found = compare(method, torch.full((4, 3), 10.0))
    (found.distilled.total + found.gsd_error).backward()
    optimizer.step()
    assert torch.equal(method.gsd_head.weight, before) is not trained
    assert "gsd_head.weight" in method.state_dict()


def test_satdino_2_relative_error_is_alike_for_fine_and_coarse_pixels_and_metres_are_not():
    for target, alike in (("log", True), ("metres", False)):
        errors = []
        for size in (0.3, 30.0):
            method = tiny(gsd_target=target)
            with torch.no_grad():
                method.gsd_head.weight.zero_()
                method.gsd_head.bias.fill_(math.log(2 * size) if target == "log" else 2 * size)
            errors.append(compare(method, torch.full((4, 3), size)).gsd_error.item())
        assert (errors[0] == pytest.approx(errors[1], rel=1e-4)) is alike
    assert errors == pytest.approx([0.3**2, 30**2], rel=1e-4)


def test_satdino_2_unknown_pixel_sizes_are_left_out():
    known = torch.rand(4, 3) + 1
    some = known.clone()
    some[0] = float("nan")
    some[1] = 0
    method = tiny()
    squares = (
        method.gsd_head(torch.stack([method.see(view)[:, 1] for view in views()[2:]]))[..., 0] - known[2:].log()
    ) ** 2
    found = compare(method, some)
    torch.testing.assert_close(found.gsd_error, squares.mean())
    pixels, valid = torch.randn(3, 3, 40, 40), torch.ones(3, 40, 40, dtype=torch.bool)
    for gsd, warned in ((float("nan"), 1), (10.0, 0)):
        assert len(method.loss(Sample(pixels, valid, torch.full((3,), gsd)), 0.5).warnings) == warned
    nothing = compare(method, torch.full((4, 3), float("nan")))
    assert nothing.gsd_error.item() == 0
    assert torch.isfinite(nothing.distilled.total)


def test_satdino_3_pixel_size_of_every_view_changes_with_its_crop():
    drawn = tiny().draw(View(torch.randn(5, 3, 40, 40), torch.ones(5, 40, 40, dtype=torch.bool)))
    for view, crop, size in drawn:
        side = (crop.height_B * crop.width_B).sqrt()
        gsd = pixel_size(torch.full((5,), 10.0), crop, size)
        torch.testing.assert_close(gsd, 10 * side / size, rtol=0.02, atol=0)
        assert view.pixels_BCHW.shape[-1] == size


def test_satdino_3_pixel_size_divides_by_the_mean_factor_and_not_by_the_mean_side():
    whole, flag = torch.tensor([12.0]), torch.tensor([False])
    crop = Rectangles(torch.zeros(1), torch.zeros(1), whole, 2 * whole, flag, flag)
    assert pixel_size(torch.tensor([3.0]), crop, 24).item() == pytest.approx(3 / ((24 / 12 + 24 / 24) / 2))
    assert pixel_size(torch.tensor([3.0]), crop, 24).item() != pytest.approx(3 * 18 / 24)


def test_satdino_4_reading_a_crop_makes_the_pixels_that_the_target_says():
    ramp = torch.arange(32.0).expand(1, 1, 32, 32)
    crop = draw_crop(1, 32, 32, (0.3, 0.5), torch.device("cpu"), mirror=0)
    view = cut(ramp, torch.ones(1, 32, 32, dtype=torch.bool), crop, 16, "bilinear")
    step = view.pixels_BCHW[0, 0, 0].diff()[3:-3].mean().item()  # metres per pixel along a row, of 1 m pixels
    square = Rectangles(crop.top_B, crop.left_B, crop.width_B, crop.width_B, crop.mirrored_B, crop.upside_down_B)
    assert step == pytest.approx(pixel_size(torch.ones(1), square, 16).item(), rel=0.02)


def test_satdino_5_token_of_the_pixel_size_is_last_and_never_a_patch():
    encoder = vit().eval()
    pixels = views()[0]
    encoded = encoder.encode_all(encoder.embed(pixels))
    assert encoded.shape == (3, 18, 24)
    torch.testing.assert_close(encoder.encode(encoder.embed(pixels)), encoded[:, :17])
    dense = encoder.feature_maps(pixels)[-1].features_BDhw
    torch.testing.assert_close(dense.flatten(2).mT, encoded[:, 1:17])
    mean = vit(pooling="mean").eval()
    mean.load_state_dict(encoder.state_dict())
    torch.testing.assert_close(mean.embedding(pixels), encoded[:, 1:17].mean(1))


def test_satdino_6_weights_of_dino_fit_after_a_row_for_the_token_is_added():
    plain, encoder = vit(gsd_token=False).eval(), vit().eval()
    assert plain.pos_embed.shape[1] == 17
    assert encoder.pos_embed.shape[1] == 18
    state = encoder.with_gsd_token(plain.state_dict())
    encoder.load_state_dict(state)
    torch.testing.assert_close(encoder.patch_embed.proj.weight, plain.patch_embed.proj.weight)
    torch.testing.assert_close(encoder.pos_embed[:, :17], plain.pos_embed)
    assert encoder.pos_embed[:, 17].abs().sum() > 0
    assert encoder.with_gsd_token(state) is state


@pytest.mark.parametrize("side", [14, 28])
def test_satdino_7_positions_of_any_grid_have_its_number_of_rows(side):
    table = torch.randn(1, side * side + 2, 2)
    published = 0
    for wanted in [1, 2, 6, 13, 15, 39, 40, 41, 64, 157]:
        ours = scale_positions(table, (wanted, wanted + 3), False, 1)
        assert ours.shape[1] == wanted * (wanted + 3) + 2
        assert torch.equal(ours[:, [0, -1]], table[:, [0, -1]])
        published += not torch.equal(ours[:, 1:-1], scale_positions(table[:, :-1], (wanted, wanted + 3), False)[:, 1:])
    assert 0 < published < 10  # their divisor where it works, ours beyond


def test_satdino_8_small_views_keep_each_to_its_own_share_of_the_window():
    assert equal_parts(0.05, 0.25, 10)[0] == pytest.approx((0.05, 0.07))
    assert equal_parts(0.05, 0.25, 10)[9] == pytest.approx((0.23, 0.25))
    torch.manual_seed(0)
    method = tiny(split=0.25, small_views=4)
    drawn = method.draw(View(torch.randn(64, 3, 100, 100), torch.ones(64, 100, 100, dtype=torch.bool)))
    shares = [(one.crop.height_B * one.crop.width_B / 1e4) for one in drawn]
    for share in shares[:2]:
        assert share.min() > 0.24
        assert share.max() > 0.8
    for share, (low, high) in zip(shares[2:], equal_parts(0.05, 0.25, 4), strict=True):
        assert low - 0.01 < share.min() < low + 0.02
        assert high - 0.02 < share.max() < high + 0.01


def test_satdino_8_a_window_too_long_for_any_attempt_gives_its_middle():
    crop = draw_crop(6, 10, 400, (0.9, 1.0), torch.device("cpu"))
    assert crop.height_B.tolist() == [10] * 6
    assert crop.width_B.tolist() == [13] * 6
    assert crop.left_B.tolist() == [193] * 6
    tall = draw_crop(2, 400, 12, (0.9, 1.0), torch.device("cpu"))
    assert (tall.height_B.tolist(), tall.width_B.tolist(), tall.top_B.tolist()) == ([16] * 2, [12] * 2, [192] * 2)


def test_satdino_9_targets_are_in_the_order_of_the_views():
    method = tiny(gsd_target="metres")
    told = method.gsd_head(torch.stack([method.see(view)[:, 1] for view in views()]))[..., 0].detach()
    shift = told - told.min() + 1
    with torch.no_grad():
        method.gsd_head.bias += 1 - told.min()
    assert compare(method, shift).gsd_error.item() == pytest.approx(0, abs=1e-9)
    turned = shift.T.reshape(4, 3)
    assert compare(method, turned).gsd_error.item() > 1e-4


def test_satdino_10_features_for_a_head_are_the_raw_class_token():
    encoder = vit().eval()
    pixels = views()[0]
    torch.testing.assert_close(encoder.embedding(pixels), encoder.encode_all(encoder.embed(pixels))[:, 0])
    assert (encoder.embedding(pixels).norm(dim=1) - 1).abs().min() > 0.1


def test_satdino_loss_adds_the_weighted_error():
    sample = Sample(torch.randn(3, 3, 40, 40), torch.ones(3, 40, 40, dtype=torch.bool), torch.full((3,), 10.0))
    losses = []
    for weight in (0.0, 2.0):
        method = tiny(gsd_weight=weight)
        torch.manual_seed(5)
        losses.append(method.loss(sample, 0.5))
    assert losses[0].parts == losses[1].parts
    parts = losses[1].parts
    assert losses[1].total.item() == pytest.approx(float(parts["distillation"] + 2 * parts["gsd"]), rel=1e-5)
    assert losses[0].total.item() == pytest.approx(parts["distillation"].item(), rel=1e-5)


@pytest.mark.parametrize("encoder", [ConvSmall(ConvSmallConfig(width=32), 3), vit(gsd_token=False)])
def test_an_encoder_without_the_token_is_refused(encoder):
    with pytest.raises(UserError, match="vit_learned"):
        SatDINO(SatDINOConfig(**SEE), encoder)


def test_training_learns_the_size_of_a_pixel():
    method = tiny(gsd_weight=1.0, small_views=0)
    optimizer = torch.optim.AdamW([value for value in method.parameters() if value.requires_grad], lr=3e-3)
    generator, errors = torch.Generator().manual_seed(0), []
    for step in range(60):
        gsd = torch.exp(2 * torch.rand(16, generator=generator))
        wave = torch.arange(24.0)[None] * gsd[:, None]  # a wave of 10 m: the coarser the pixel, the shorter it looks
        pixels = torch.sin(2 * math.pi * wave / 30)[:, None, None].expand(-1, 3, 24, -1)
        loss = method.loss(Sample(pixels, torch.ones(16, 24, 24, dtype=torch.bool), gsd), step / 60)
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        method.after_step(step / 60)
        errors.append(loss.parts["gsd"].item())
    assert sum(errors[-10:]) / 10 < 0.5 * sum(errors[:5]) / 5
