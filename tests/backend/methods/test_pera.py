"""PerA against the authors' numbers, against plain formulas, and its pitfalls one by one."""

import math
from typing import Any

import pytest
import torch
from rsfm.blocks.drop_path import SubsetDropPath, drop_by_subset
from rsfm.blocks.masking import patchify
from rsfm.blocks.regions import Regions, counts, interleave, select, split_regions
from rsfm.blocks.spread import spread
from rsfm.blocks.teacher import make_teacher
from rsfm.blocks.view import View
from rsfm.encoders.conv_small import ConvSmall, ConvSmallConfig
from rsfm.encoders.vit_learned import ViTLearned, ViTLearnedConfig
from rsfm.errors import UserError
from rsfm.method import Sample
from rsfm.methods.pera import Pairs, PerA, PerAConfig, pixel_error
from rsfm.training.config import TrainingConfig
from rsfm.training.optimizer import make_optimizer
from torch import Tensor

from tests.backend.methods.golden_run import authors_folder, change, failures
from tests.backend.methods.pera_case import write_pera_case

OFFICIAL = next(preset.values for preset in PerA.presets if preset.name == "pera_official")
CASES = {
    "four_bands_odd_depth": {
        "seed": 1, "dim": 24, "depth": 3, "heads": 2, "patch": 4, "global_px": 24, "local_px": 12, "batch": 4,
        "bands": 4, "globals": 2, "locals": 3, "prototypes": 17, "hidden": 16, "bottleneck": 8, "student": 0.3,
        "teacher": 0.5, "teacher_temp": 0.05, "temp": 0.2, "keep": 0.8, "ce": 1.0, "koleo": 0.3, "pixel": 0.02,
        "lr": 0.1, "momentum": 0.9, "clip": 0.5,
    },
    "one_band": {
        "seed": 2, "dim": 16, "depth": 2, "heads": 4, "patch": 2, "global_px": 10, "local_px": 6, "batch": 3,
        "bands": 1, "globals": 2, "locals": 1, "prototypes": 8, "hidden": 12, "bottleneck": 6, "student": 0.2,
        "teacher": 0.6, "teacher_temp": 0.03, "temp": 0.1, "keep": 0.9, "ce": 1.0, "koleo": 0.1, "pixel": 0.01,
        "lr": 0.05, "momentum": 0.5, "clip": 100.0,
    },
}  # fmt: skip


def tiny(bands: int = 3, **config: Any) -> PerA:
    """A small method whose teacher differs from its student, as after some training."""
    torch.manual_seed(0)
    encoder = ViTLearned(ViTLearnedConfig(patch_size=4, window=24, width=24, depth=3, heads=2), bands)
    values = {"large_size": 24, "small_size": 12, "small_views": 2, "prototypes": 12, "hidden": 16, "bottleneck": 8}
    method = PerA(PerAConfig(**{**values, "drop_path": 0, **config}), encoder)
    with torch.no_grad():
        for value in [*method.teacher.parameters(), *method.teacher_head.parameters()]:
            value.add_(0.05 * torch.randn_like(value))
    return method.train()


def window(count: int = 3, bands: int = 3) -> View:
    pixels = torch.randn(count, bands, 40, 40, generator=torch.Generator().manual_seed(1))
    return View(pixels, torch.ones(count, 40, 40, dtype=torch.bool))


def draw(method: PerA, count: int = 3, views: int = 2, size: int = 24) -> Pairs:
    torch.manual_seed(3)
    pairs = method.draw(window(count, method.encoder.bands), views, size, (0.4, 1.0))
    assert pairs
    return pairs


def test_every_array_of_the_authors_is_compared_and_within_its_tolerance(capsys):
    assert failures(authors_folder("pera"), capsys) == []


@pytest.mark.parametrize("name", sorted(CASES))
def test_other_sizes_are_what_plain_formulas_give(name, tmp_path, capsys):
    write_pera_case(tmp_path / f"pera_{name}", CASES[name])
    assert failures(tmp_path / f"pera_{name}", capsys) == []


@pytest.mark.parametrize("wrong", ["koleo_per_global_crop", "cls_ce_terms_by_crop", "grad/s_mask_token"])
def test_one_changed_number_is_found(wrong, tmp_path, capsys):
    folder = tmp_path / "pera_wrong"
    write_pera_case(folder, CASES["one_band"])
    change(folder, wrong)
    assert [line.split()[0] for line in failures(folder, capsys)] == [wrong]


def test_pera_1_a_pair_is_one_rectangle_in_two_colours():
    pairs = draw(tiny(2), count=200, views=1)
    student, teacher = pairs.student_NCSS.flatten(1), pairs.teacher_NCSS.flatten(1)
    same = torch.stack([torch.corrcoef(torch.stack(pair))[0, 1] for pair in zip(student, teacher, strict=True)])
    assert same.min() > 0.5
    changed = ((student - teacher).abs().amax(1) > 1e-4).float().mean().item()
    assert changed == pytest.approx(1 - 0.2 * 0.9, abs=0.08)


def test_pera_1_views_are_compared_with_their_own_twin_alone():
    method = tiny()
    large, small = draw(method), draw(method, size=12)
    found = method.compare(large, small, 3, 1.0)
    twisted = large._replace(teacher_NCSS=large.teacher_NCSS.flip(0), regions=large.regions._replace(
        teacher_BL=large.regions.teacher_BL.flip(0)))  # fmt: skip
    again = tiny().compare(twisted, small, 3, 1.0)
    assert len(found.terms_V) == 4
    torch.testing.assert_close(found.terms_V[2:], again.terms_V[2:])
    assert not torch.allclose(found.terms_V[:2], again.terms_V[:2])


def test_pera_2_learnable_patches_enter_halfway_in_the_order_of_the_window_with_their_position_once():
    method = tiny()
    pairs = draw(method)
    assert len(method.encoder.blocks) // 2 == 1
    tokens = method.encoder.blocks[:1](method.student_input(pairs))
    merged, asked = method.insert(tokens, pairs)
    positions = method.encoder.positions(pairs.student_NCSS)[0]
    for row in range(len(merged)):
        known = pairs.regions.student_BL[row] | pairs.regions.learnable_BL[row]
        seen = iter(tokens[row, 1:])
        for place, token, new in zip(known.nonzero()[:, 0].tolist(), merged[row, 1:], asked[row, 1:], strict=True):
            learnable = pairs.regions.learnable_BL[row, place]
            assert new == learnable
            torch.testing.assert_close(token, method.mask_token[0, 0] + positions[place] if learnable else next(seen))


def test_pera_2_what_is_asked_for_does_not_change_the_first_half():
    method = tiny()
    pairs = draw(method)
    pixels = pairs.student_NCSS.clone()
    hidden = (~pairs.regions.student_BL).reshape(-1, 1, 6, 6).float()
    hidden = torch.nn.functional.interpolate(hidden, scale_factor=4).bool().expand_as(pixels)
    pixels[hidden] = 99
    torch.testing.assert_close(method.see(pairs._replace(student_NCSS=pixels), True)[1], method.see(pairs, True)[1])


@pytest.mark.parametrize(("patches", "expected"), [(784, (157, 157, 470)), (36, (7, 7, 22)), (49, (10, 10, 29))])
def test_pera_3_counts_are_exact(patches, expected):
    assert counts(patches, 0.2, 0.6) == expected


def test_pera_3_parts_are_disjoint_cover_all_and_differ_by_view_and_window():
    regions = tiny().regions(12, 24, torch.device("cpu"))
    student, learnable, teacher = (mask.int() for mask in regions)
    assert ((student + learnable + teacher) == 1).all()
    assert (student.sum(1).unique().tolist(), learnable.sum(1).unique().tolist()) == ([7], [7])
    assert len({tuple(row) for row in student.tolist()}) == 12


def test_parts_come_back_in_the_order_of_the_window():
    rank = torch.stack([torch.randperm(20) for _ in range(3)])
    regions: Regions = split_regions(rank, 0.25, 0.5)
    tokens = torch.arange(20.0).expand(3, -1)[..., None]
    student = torch.stack([row[mask] for row, mask in zip(tokens, regions.student_BL, strict=True)])
    learnable = torch.stack([row[mask] for row, mask in zip(tokens, regions.learnable_BL, strict=True)])
    merged, second = interleave(student, learnable, regions.student_BL, regions.learnable_BL)
    assert (merged.diff(dim=1) > 0).all()
    for row, mask in zip(merged, second, strict=True):
        assert set(row[mask, 0].tolist()) <= set(learnable[..., 0].flatten().tolist())
    torch.testing.assert_close(merged[second].reshape(3, -1), learnable[..., 0])


@pytest.mark.parametrize("bands", [1, 3, 6])
def test_pera_4_pixel_error_is_summed_over_a_patch_and_averaged_over_patches_at_three_bands(bands):
    pairs = draw(tiny(bands))
    target = select(patchify(pairs.student_NCSS, 4), pairs.regions.learnable_BL)
    assert pixel_error(target + 0.5, pairs, 4).item() == pytest.approx(0.25 * 16 * 3, rel=1e-4)
    assert target.std().item() > 0.5  # the pixels as they are, not each patch by its own mean and spread


def test_pera_4_nodata_is_left_out_of_the_pixels():
    pairs = draw(tiny())
    valid = pairs.valid_NSS.clone()
    valid[:, :, ::4] = False
    pairs = pairs._replace(valid_NSS=valid)
    target = select(patchify(pairs.student_NCSS, 4), pairs.regions.learnable_BL)
    hidden = select(patchify((~valid)[:, None].expand(-1, 3, -1, -1).float(), 4), pairs.regions.learnable_BL)
    assert pixel_error(target + 1e3 * hidden, pairs, 4).item() == pytest.approx(0, abs=1e-6)


def test_pera_5_spread_is_that_of_the_nearest_neighbours():
    logits, usable = torch.randn(6, 9), torch.ones(6, dtype=torch.bool)
    unit = logits / logits.norm(dim=1, keepdim=True)
    apart = torch.cdist(unit, unit) + 9 * torch.eye(6)
    assert spread(logits, usable).item() == pytest.approx(-apart.amin(1).log().mean().item(), rel=1e-4)
    assert spread(logits * 7, usable).item() == pytest.approx(spread(logits, usable).item(), rel=1e-5)


def test_pera_5_equal_windows_push_nothing_apart():
    logits = torch.randn(4, 9).repeat(2, 1).requires_grad_()
    total = spread(logits, torch.ones(8, dtype=torch.bool))
    total.backward()
    assert total.item() == 0
    assert logits.grad.abs().max() == 0
    alone = spread(torch.randn(1, 9), torch.ones(1, dtype=torch.bool))
    assert alone.item() == 0


def test_pera_5_unusable_windows_are_nobodys_neighbour():
    logits, usable = torch.randn(6, 9), torch.tensor([True, True, True, True, False, False])
    logits[4] = logits[0] + 1e-3
    assert spread(logits, usable).item() == pytest.approx(spread(logits[:4], usable[:4]).item(), rel=1e-5)


def test_pera_5_constant_windows_give_finite_gradients():
    method = tiny()
    pixels = torch.randn(4, 3, 40, 40)
    pixels[1:] = torch.tensor([0.0, 0.5, 0.5])[:, None, None, None]
    loss = method.loss(Sample(pixels, torch.ones(4, 40, 40, dtype=torch.bool), torch.ones(4)), 0.5)
    loss.total.backward()
    assert loss.parts["spread"] == 0  # a single window is left, which has no neighbour
    assert "single value" in loss.warnings[0]
    assert all(torch.isfinite(value.grad).all() for value in method.parameters() if value.grad is not None)
    pixels = torch.randn(4, 3, 40, 40)
    assert method.loss(Sample(pixels, torch.ones(4, 40, 40, dtype=torch.bool), torch.ones(4)), 0.5).warnings == ()


def test_pera_6_mask_token_decays_and_has_no_average():
    method = tiny()
    optimizer = make_optimizer(method, TrainingConfig.model_validate(OFFICIAL["training"]))
    decays = {id(value): group["weight_decay"] for group in optimizer.param_groups for value in group["params"]}
    for name, value in method.named_parameters():
        assert decays.get(id(value), 0) == (0.04 if value.requires_grad else 0), name
    assert not [name for name in method.state_dict() if name.startswith("teacher") and "mask" in name]
    assert {group["eps"] for group in optimizer.param_groups} == {2e-5}


def test_pera_7_recipe_clips_all_gradients_together():
    assert OFFICIAL["training"]["clip_norm"] == 3
    assert OFFICIAL["training"]["clip_each"] is False


def test_pera_8_positions_are_those_of_the_large_views():
    encoder = ViTLearned(ViTLearnedConfig.model_validate({**OFFICIAL["encoder"], "size": "tiny"}), 3)
    assert encoder.pos_embed.shape == (1, 785, 192)


def test_pera_9_copy_of_a_head_uses_its_own_prototypes():
    method, given = tiny(), torch.randn(3, 24)
    head, copied = method.head, make_teacher(method.head)
    torch.testing.assert_close(copied(given), head(given))
    with torch.no_grad():
        head.last_layer.weight_v.normal_()
        head.last_layer.weight_g.fill_(2)
    unit = copied.direction(given)
    rows = torch.nn.functional.normalize(copied.last_layer.weight_v, dim=1) * copied.last_layer.weight_g
    torch.testing.assert_close(copied(given), unit @ rows.T)
    assert not torch.allclose(copied(given), head(given))


def test_pera_10_mask_token_is_no_part_of_the_encoder():
    method = tiny()
    assert not [name for name in method.encoder.state_dict() if "mask" in name]
    assert [name for name in method.state_dict() if "mask" in name] == ["mask_token"]


def test_pera_12_reported_parts_add_up_to_the_loss():
    method = tiny(spread_weight=0.3, pixel_weight=0.02)
    sample = Sample(*window(), torch.ones(3))
    torch.manual_seed(5)
    found = method.loss(sample, 0.5)
    parts = {name: float(part) for name, part in found.parts.items()}
    total = parts["distillation"] + 0.3 * parts["spread"] + 0.02 * parts["pixel"]
    assert found.total.item() == pytest.approx(total, rel=1e-6)
    assert all(abs(value) > 1e-3 for value in parts.values())


def test_pera_15_small_views_of_36_patches_share_out_7_and_22():
    encoder = ViTLearned(ViTLearnedConfig(patch_size=16, window=224, width=24, depth=1, heads=2), 3)
    regions = PerA(PerAConfig.model_validate(OFFICIAL["method"] | {"prototypes": 8, "hidden": 8}), encoder).regions(
        5, OFFICIAL["method"]["small_size"], torch.device("cpu")
    )
    assert regions.student_BL.shape == (5, 36)
    assert regions.student_BL.sum(1).tolist() == [7] * 5
    assert regions.teacher_BL.sum(1).tolist() == [22] * 5


def test_pera_11_entropies_are_averaged_over_views_and_spread_is_summed():
    method = tiny(spread_weight=0.5, pixel_weight=0.25)
    found = method.compare(draw(method), draw(method, size=12), 3, 0.5)
    expected = found.terms_V.sum() / 4 + 0.5 * found.spread_V.sum() + 0.25 * found.pixel
    assert len(found.spread_V) == 2
    torch.testing.assert_close(found.total, expected)


def test_pera_13_centre_moves_by_all_views_after_the_loss_and_is_kept():
    method = tiny(centre_momentum=0.6)
    large, small = draw(method), draw(method, size=12)
    with torch.no_grad():
        raw = torch.cat([method.teacher_head(method.watch(pair)) for pair in (large, small)])
    found = method.compare(large, small, 3, 1.0)
    torch.testing.assert_close(found.probabilities_VBK.flatten(0, 1), torch.softmax(raw / 0.07, dim=1))
    torch.testing.assert_close(method.state_dict()["centre.center"], 0.4 * raw.mean(0, keepdim=True))


@pytest.mark.parametrize("count", [1, 2, 5, 10])
def test_branches_are_left_out_for_a_share_of_the_batch_and_the_mean_stays(count):
    drop, branch = SubsetDropPath(0.3).train(), torch.ones(count, 4, 2)
    kept = max(int(count * 0.7), 1)
    factors = drop(branch)[:, 0, 0]
    assert (factors > 0).sum() == kept
    assert factors.sum().item() == pytest.approx(count)
    assert torch.equal(drop.eval()(branch), branch)


def test_every_block_leaves_out_the_same_share_and_the_teacher_none():
    method = tiny(drop_path=0.3)
    rates = [module.rate for module in method.encoder.modules() if isinstance(module, SubsetDropPath)]
    assert rates == [0.3] * 6
    assert not [module for module in method.teacher.modules() if isinstance(module, SubsetDropPath)]
    drop_by_subset(method.encoder.blocks, 0)
    assert not [module for module in method.encoder.modules() if isinstance(module, SubsetDropPath)]


def test_windows_do_not_see_each_other():
    method = tiny()
    pairs = draw(method)
    pixels = pairs.student_NCSS.clone()
    pixels[0] += 1
    before, after = method.see(pairs, True), method.see(pairs._replace(student_NCSS=pixels), True)
    torch.testing.assert_close(before[0][1:], after[0][1:])
    torch.testing.assert_close(before[1][1:], after[1][1:])
    assert not torch.allclose(before[0][0], after[0][0])


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_loss_is_computed_in_float32(precision):
    method = tiny()
    with torch.autocast("cpu", precision):
        found = method.compare(draw(method), draw(method, size=12), 3, 0.5)
    assert found.total.dtype == found.probabilities_VBK.dtype == torch.float32
    found.total.backward()
    assert all(torch.isfinite(value.grad).all() for value in method.parameters() if value.grad is not None)


def test_no_small_views_is_allowed():
    method = tiny(small_views=0)
    sample = Sample(*window(), torch.ones(3))
    assert math.isfinite(method.loss(sample, 0.5).total.item())


def test_what_cannot_be_shared_out_is_said():
    with pytest.raises(UserError, match="Small size"):
        tiny(small_size=4).loss(Sample(*window(), torch.ones(3)), 0)
    with pytest.raises(ValueError, match="leave no patch"):
        PerAConfig(student_share=0.5, teacher_share=0.6)
    with pytest.raises(UserError, match="vit_learned"):
        PerA(PerAConfig(), ConvSmall(ConvSmallConfig(width=32), 3))


def test_training_learns_to_imagine_pixels():
    method = tiny(2, spread_weight=0, pixel_weight=1.0, small_views=0)
    optimizer = torch.optim.AdamW([value for value in method.parameters() if value.requires_grad], lr=5e-3)
    generator, errors = torch.Generator().manual_seed(0), []
    for step in range(40):
        tint = torch.randn(8, 2, 1, 1, generator=generator)
        pixels: Tensor = (tint + 0.1 * torch.randn(8, 2, 40, 40, generator=generator)).clamp(-2, 2)
        loss = method.loss(Sample(pixels, torch.ones(8, 40, 40, dtype=torch.bool), torch.ones(8)), step / 40)
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        method.after_step(step / 40)
        errors.append(loss.parts["pixel"].item())
    assert sum(errors[-8:]) < 0.7 * sum(errors[:8])
