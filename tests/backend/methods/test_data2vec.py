"""data2vec against the authors' numbers, against plain formulas, and its pitfalls one by one."""

import math
from typing import Any

import pytest
import torch
from rsfm.blocks.block_masking import hide_blocks
from rsfm.blocks.relative_vit import relative_index
from rsfm.blocks.schedules import climb
from rsfm.blocks.view import View
from rsfm.encoders.conv_small import ConvSmall, ConvSmallConfig
from rsfm.encoders.vit_relative import ViTRelative, ViTRelativeConfig
from rsfm.errors import UserError
from rsfm.method import Sample
from rsfm.methods.data2vec import Data2Vec, Data2VecConfig, Hidden, plain_norm, variety
from rsfm.training.config import TrainingConfig
from rsfm.training.optimizer import make_optimizer
from torch import Tensor

from tests.backend.methods.data2vec_case import write_data2vec_case
from tests.backend.methods.golden_run import authors_folder, change, failures

OFFICIAL = next(preset.values for preset in Data2Vec.presets if preset.name == "data2vec_official")
CASES = {
    "four_bands": {
        "seed": 1, "dim": 24, "depth": 3, "heads": 2, "patch": 4, "px": 20, "bands": 4, "batch": 3, "layers": [0, 2],
        "beta": 0.5, "lr": 0.1, "momentum": 0.9, "clip": 0.2,
    },
    "one_band": {
        "seed": 2, "dim": 16, "depth": 2, "heads": 4, "patch": 2, "px": 8, "bands": 1, "batch": 2, "layers": [1],
        "beta": 2.0, "lr": 0.05, "momentum": 0.9995, "clip": 50.0,
    },
}  # fmt: skip


def tiny(bands: int = 3, **config: Any) -> Data2Vec:
    """A small method whose teacher differs from its student, as after some training."""
    torch.manual_seed(0)
    encoder = ViTRelative(ViTRelativeConfig(patch_size=4, window=24, width=24, depth=3, heads=2), bands)
    values = {"target_blocks": 2, "smallest_block": 4, "drop_path": 0, "drop_attention": 0}
    method = Data2Vec(Data2VecConfig(**{**values, **config}), encoder)
    with torch.no_grad():
        for value in [*method.teacher.parameters(), *method.encoder.rel_pos_bias.parameters()]:
            value.add_(0.05 * torch.randn_like(value))
    return method.train()


def window(count: int = 3, bands: int = 3, side: int = 24) -> View:
    pixels = torch.randn(count, bands, side, side, generator=torch.Generator().manual_seed(1))
    return View(pixels, torch.ones(count, side, side, dtype=torch.bool))


def test_every_array_of_the_authors_is_compared_and_within_its_tolerance(capsys):
    assert failures(authors_folder("data2vec"), capsys) == []


@pytest.mark.parametrize("name", sorted(CASES))
def test_other_sizes_are_what_plain_formulas_give(name, tmp_path, capsys):
    write_data2vec_case(tmp_path / f"data2vec_{name}", CASES[name])
    assert failures(tmp_path / f"data2vec_{name}", capsys) == []


@pytest.mark.parametrize("wrong", ["target_masked", "grad/mask_token", "ema_after/lm_head.bias"])
def test_one_changed_number_is_found(wrong, tmp_path, capsys):
    folder = tmp_path / "data2vec_wrong"
    write_data2vec_case(folder, CASES["one_band"])
    change(folder, wrong)
    assert [line.split()[0] for line in failures(folder, capsys)] == [wrong]


@pytest.mark.parametrize("momentum", [0.9, 0.996, 0.9995, 0.9999])
def test_data2vec_1_average_leaves_relative_positions_whole(momentum):
    method = tiny(momentum=momentum)
    before = method.teacher.rel_pos_bias.relative_position_bias_table.clone()
    index = relative_index(6, 6).clone()
    for _ in range(3):
        method.after_step(0)
    assert torch.equal(relative_index(6, 6), index)
    assert not torch.equal(method.teacher.rel_pos_bias.relative_position_bias_table, before)
    assert all(value.is_floating_point() for value in method.state_dict().values())


def test_data2vec_2_blocks_are_normalised_before_they_are_averaged_and_once_more():
    method, view = tiny(), window()
    with torch.no_grad():
        method.teacher.blocks[2].get_parameter("mlp.fc2.bias").normal_(std=50)
    layers = method.teach(view.pixels_BCHW)
    mean = torch.stack([plain_norm(layer) for layer in layers]).mean(0)
    torch.testing.assert_close(method.target(view.pixels_BCHW), plain_norm(mean))
    assert not torch.allclose(method.target(view.pixels_BCHW), plain_norm(torch.stack(layers).mean(0)), atol=0.05)


@pytest.mark.parametrize(("wanted", "expected"), [(1, (2,)), (2, (1, 2)), (9, (0, 1, 2))])
def test_data2vec_3_targets_are_the_last_blocks_counted_from_0(wanted, expected):
    assert tiny(target_blocks=wanted).targets == expected


def test_data2vec_3_targets_are_what_blocks_give_before_the_last_norm():
    method, view = tiny(target_blocks=1), window()
    with torch.no_grad():
        method.teacher.norm.weight.mul_(5)
    last = method.teach(view.pixels_BCHW)[0]
    inside = list(method.teacher.layers(method.teacher.embed(view.pixels_BCHW), 6))[-1][:, 1:]
    torch.testing.assert_close(last, inside)


def test_data2vec_4_teacher_sees_the_whole_window_and_leaves_nothing_out():
    method, view = tiny(drop_path=0.5, drop_attention=0.5), window()
    assert torch.equal(method.target(view.pixels_BCHW), method.target(view.pixels_BCHW))
    hidden = method.hide(view)
    told = [method.tell(view.pixels_BCHW, hidden) for _ in range(2)]
    assert not torch.equal(*told)
    pixels = view.pixels_BCHW.clone()
    mask = torch.nn.functional.interpolate(hidden.hidden_BL.reshape(3, 1, 6, 6).float(), scale_factor=4).bool()
    pixels[mask.expand_as(pixels)] = 9
    assert not torch.allclose(method.target(pixels), method.target(view.pixels_BCHW))


def test_student_sees_nothing_of_what_is_hidden():
    method, view = tiny(), window()
    hidden = method.hide(view)
    pixels = view.pixels_BCHW.clone()
    mask = torch.nn.functional.interpolate(hidden.hidden_BL.reshape(3, 1, 6, 6).float(), scale_factor=4).bool()
    pixels[mask.expand_as(pixels)] = 9
    torch.testing.assert_close(method.tell(pixels, hidden), method.tell(view.pixels_BCHW, hidden))


@pytest.mark.parametrize(("rows", "columns"), [(3, 5), (6, 6), (9, 12), (1, 1), (1, 4)])
def test_data2vec_5_table_is_stretched_for_another_grid_with_centre_edges_and_class_kept(rows, columns):
    positions = tiny().encoder.rel_pos_bias
    table, bias = positions.relative_position_bias_table, positions(rows, columns)
    centre = (11 * 11) // 2
    assert bias.shape == (2, rows * columns + 1, rows * columns + 1)
    for patch in range(1, rows * columns + 1):
        torch.testing.assert_close(bias[:, patch, patch], table[centre])
        torch.testing.assert_close(bias[:, 0, patch], table[-3])
        torch.testing.assert_close(bias[:, patch, 0], table[-2])
    torch.testing.assert_close(bias[:, 0, 0], table[-1])
    if min(rows, columns) > 1:
        torch.testing.assert_close(bias[:, 1, -1], table[0])  # the whole way up and left
        torch.testing.assert_close(bias[:, -1, 1], table[-4])
    if rows == columns == 6:
        assert torch.equal(bias, table[relative_index(6, 6)].permute(2, 0, 1))


def test_training_follows_a_map():
    relative_index.cache_clear()
    method, view = tiny(), window()
    with torch.inference_mode():
        method.encoder.feature_maps(view.pixels_BCHW)
    method.encoder.embedding(view.pixels_BCHW).sum().backward()
    assert method.encoder.rel_pos_bias.relative_position_bias_table.grad.abs().sum() > 0


def test_data2vec_7_keys_have_no_bias():
    names = set(tiny().encoder.state_dict())
    assert {"blocks.0.attn.q_bias", "blocks.0.attn.v_bias", "blocks.0.attn.qkv.weight"} <= names
    assert not {name for name in names if "k_bias" in name or name.endswith("qkv.bias")}


def test_data2vec_8_masks_are_flattened_as_patches_are():
    method, view = tiny(), window(1)
    mask = torch.zeros(1, 6, 6, dtype=torch.bool)
    mask[0, 1, 4] = True
    method.encoder.cls_token.data.zero_()
    tokens = method.substitute(view.pixels_BCHW, mask.flatten(1))
    plain = method.encoder.embed(view.pixels_BCHW)
    changed = (tokens != plain).any(2)[0].nonzero().tolist()
    assert changed == [[10]]
    other = view.pixels_BCHW.clone()
    other[:, :, 4:8, 16:20] += 1
    assert (method.encoder.embed(other) != plain).any(2)[0].nonzero().tolist() == [[10]]


def test_data2vec_9_student_is_normalised_and_its_class_token_never_told():
    method, view = tiny(), window()
    hidden = method.hide(view)
    encoded = method.encoder.encode(method.substitute(view.pixels_BCHW, hidden.hidden_BL), 6)
    torch.testing.assert_close(method.tell(view.pixels_BCHW, hidden), method.lm_head(encoded[:, 1:][hidden.asked_BL]))
    torch.testing.assert_close(encoded.mean(2), torch.zeros(3, 37), atol=1e-5, rtol=0)


def test_data2vec_10_a_windows_vector_is_the_norm_of_the_mean_of_its_patches():
    encoder, view = tiny().encoder, window(side=32)
    torch.nn.init.normal_(encoder.norm.weight)
    last = list(encoder.layers(encoder.embed(view.pixels_BCHW), 8))[-1]
    torch.testing.assert_close(encoder.embedding(view.pixels_BCHW), encoder.norm(last[:, 1:].mean(1)))


@pytest.mark.parametrize(("rows", "columns", "wanted", "smallest"), [(14, 14, 120, 16), (8, 8, 38, 4), (5, 9, 20, 3)])
def test_data2vec_11_masks_have_at_most_what_is_asked_for_and_most_of_them_nearly_that(rows, columns, wanted, smallest):
    masks = hide_blocks(300, rows, columns, wanted, smallest)
    counts = masks.flatten(1).sum(1)
    assert masks.shape == (300, rows, columns)
    assert counts.max() == wanted
    assert counts.float().mean() > 0.95 * wanted
    assert len(counts.unique()) > 1  # ragged: never a fixed number for each window
    alone = torch.nn.functional.conv2d(masks[:, None].float(), torch.ones(1, 1, 3, 3), padding=1)[:, 0]
    assert ((alone == 1) & masks).sum() < 0.05 * masks.sum()  # rectangles, not single patches


def test_masks_follow_the_seed_of_torch():
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(hide_blocks(2, 8, 8, 30, 4))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_data2vec_11_windows_with_different_numbers_of_hidden_patches_are_told_in_order():
    method, view = tiny(), window(2)
    mask = torch.zeros(2, 36, dtype=torch.bool)
    mask[0, [3, 7, 30]] = True
    mask[1, 5] = True
    told = method.tell(view.pixels_BCHW, Hidden(mask, mask))
    target = method.target(view.pixels_BCHW)[mask]
    assert told.shape == target.shape == (4, 24)
    torch.testing.assert_close(target[3], method.target(view.pixels_BCHW)[1, 5])


def test_data2vec_12_collapse_shows_as_variety_going_to_0():
    told = torch.randn(500, 8)
    assert variety(told).item() == pytest.approx(1, abs=0.1)
    assert variety(told[:1].expand(500, -1)).item() == pytest.approx(1e-3, rel=1e-3)
    assert variety(told[:1]).item() == 0


def test_layer_scale_is_what_the_config_says_and_deeper_blocks_start_smaller():
    encoder = ViTRelative(ViTRelativeConfig(layer_scale=1e-4, width=192, depth=4), 3)
    for index, block in enumerate(encoder.blocks, start=1):
        assert block.gamma_1.unique().tolist() == pytest.approx([1e-4])
        largest = 0.02 / math.sqrt(2 * index)
        for part in ("attn.proj.weight", "mlp.fc2.weight"):
            assert block.get_parameter(part).abs().max().item() == pytest.approx(largest, rel=0.01)
        assert block.get_parameter("mlp.fc1.weight").abs().max().item() == pytest.approx(0.02, rel=0.01)
    assert not encoder.rel_pos_bias.relative_position_bias_table.any()


def test_mask_token_and_table_decay_and_class_token_does_not():
    method = tiny()
    optimizer = make_optimizer(method, TrainingConfig.model_validate(OFFICIAL["training"]))
    decays = {id(value): group["weight_decay"] for group in optimizer.param_groups for value in group["params"]}
    assert decays[id(method.mask_token)] == 0.05
    assert decays[id(method.encoder.rel_pos_bias.relative_position_bias_table)] == 0.05
    assert decays[id(method.encoder.cls_token)] == 0
    assert decays[id(method.encoder.blocks[0].get_parameter("gamma_1"))] == 0


@pytest.mark.parametrize("beta", [0.12, 2.0])
def test_error_is_quadratic_up_to_beta_and_linear_beyond(beta):
    method = tiny(beta=beta)
    for apart in (0.05, 1.0, 5.0):
        ours = method.error(torch.full((1, 4), apart), torch.zeros(1, 4)).item()
        expected = apart**2 / (2 * beta) if apart < beta else apart - beta / 2
        assert ours == pytest.approx(expected, rel=1e-5)


def test_teacher_slows_down_in_a_share_of_the_training():
    method = tiny(momentum_start=0.9, momentum=0.98, momentum_share=0.5)
    assert [method.momentum(progress) for progress in (0, 0.25, 0.5, 1)] == pytest.approx([0.9, 0.94, 0.98, 0.98])
    assert climb(0, 0, 0.999, 0.9998) == 0.9998


def test_patches_of_mostly_nodata_are_hidden_but_not_asked_for():
    method, view = tiny(), window()
    view.valid_BHW[:, :, :12] = False
    hidden = method.hide(view)
    assert hidden.hidden_BL.reshape(3, 6, 6)[:, :, :3].any()
    assert not hidden.asked_BL.reshape(3, 6, 6)[:, :, :3].any()
    assert torch.equal(hidden.asked_BL.reshape(3, 6, 6)[:, :, 3:], hidden.hidden_BL.reshape(3, 6, 6)[:, :, 3:])


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_loss_is_computed_in_float32(precision):
    method = tiny()
    with torch.autocast("cpu", precision):
        total = method.loss(Sample(*window(side=32), torch.ones(3)), 0).total
    total.backward()
    assert total.dtype == torch.float32
    assert all(torch.isfinite(value.grad).all() for value in method.parameters() if value.requires_grad)


def test_an_encoder_without_relative_positions_is_refused():
    with pytest.raises(UserError, match="vit_relative"):
        Data2Vec(Data2VecConfig(), ConvSmall(ConvSmallConfig(width=32), 3))


def test_training_tells_what_the_teacher_sees():
    method = tiny(2, momentum=1, momentum_start=1)
    optimizer = torch.optim.AdamW([value for value in method.parameters() if value.requires_grad], lr=5e-3)
    generator, totals = torch.Generator().manual_seed(0), []
    for step in range(50):
        tint: Tensor = 2 * torch.randn(8, 2, 1, 1, generator=generator)
        pixels = tint + 0.1 * torch.randn(8, 2, 24, 24, generator=generator)
        loss = method.loss(Sample(pixels, torch.ones(8, 24, 24, dtype=torch.bool), torch.ones(8)), step / 50)
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        method.after_step(step / 50)
        totals.append(loss.total.item())
    assert sum(totals[-8:]) < 0.6 * sum(totals[:8])
    assert loss.parts["variety"] > 0.2
