"""The pitfalls of MAE, one by one; the numbers of the authors' code are in test_golden.py."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from rsfm.blocks.masking import Split, kept_count, patchify, split_patches, take
from rsfm.blocks.positions import sincos_2d
from rsfm.blocks.schedules import warmup_cosine
from rsfm.blocks.view import View
from rsfm.encoders.conv_small import ConvSmall, ConvSmallConfig
from rsfm.encoders.vit import ViT, ViTConfig
from rsfm.errors import UserError
from rsfm.method import Sample
from rsfm.methods.mae import MAE, MAEConfig
from rsfm.training.config import TrainingConfig
from rsfm.training.optimizer import learning_rate, make_optimizer
from torch import Tensor
from torch.nn import functional

OFFICIAL = next(preset.values for preset in MAE.presets if preset.name == "mae_official")


def tiny(bands: int = 3, **config: Any) -> MAE:
    torch.manual_seed(0)
    encoder = ViT(ViTConfig(patch_size=8, window=32, width=24, depth=2, heads=2), bands)
    return MAE(MAEConfig(decoder_width=16, decoder_depth=1, decoder_heads=2, **config), encoder)


def windows(count: int = 2, bands: int = 3, side: int = 32) -> View:
    pixels_BCHW = torch.randn(count, bands, side, side, generator=torch.Generator().manual_seed(1))
    return View(pixels_BCHW, torch.ones(count, side, side, dtype=torch.bool))


def half_hidden(count: int = 2, patches: int = 16) -> Tensor:
    return (torch.arange(patches) % 2).float().expand(count, -1)


def test_mae_A1_band_is_fastest_in_a_patch():
    pixels = windows(bands=2, side=6).pixels_BCHW
    patches = patchify(pixels, 3)
    for patch, value in np.ndindex(4, 18):
        row, rest = divmod(value, 6)
        column, band = divmod(rest, 2)
        expected = pixels[1, band, 3 * (patch // 2) + row, 3 * (patch % 2) + column]
        assert patches[1, patch, value] == expected


def test_mae_A2_target_uses_the_unbiased_variance_with_its_floor_inside_the_root():
    view = windows()
    patches = patchify(view.pixels_BCHW * 1e-3, 8)
    target = tiny().target(view.pixels_BCHW * 1e-3, torch.ones_like(patches)).double().numpy()
    for index in np.ndindex(2, 16):
        values = patches[index].double().numpy()
        expected = (values - values.mean()) / math.sqrt(values.var(ddof=1) + 1e-6)
        np.testing.assert_allclose(target[index], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("norm_pix", [True, False])
def test_mae_A3_loss_is_the_mean_over_hidden_patches_alone(norm_pix):
    method, view, hidden = tiny(norm_pix=norm_pix), windows(), half_hidden()
    target = method.target(view.pixels_BCHW, torch.ones(2, 16, 192))
    rebuilt = target + torch.arange(16.0)[None, :, None]
    expected = np.mean([patch**2 for patch in range(16) if patch % 2])
    assert method.error(rebuilt, view, hidden).item() == pytest.approx(expected, rel=1e-5)
    rebuilt[:, ::2] = 1e6
    assert method.error(rebuilt, view, hidden).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("patches", "share", "kept"), [(100, 0.9, 9), (10, 0.9, 0), (64, 0.6, 25), (16, 0.7, 4), (196, 0.75, 49)]
)
def test_mae_A4_keep_count_truncates(patches, share, kept):
    assert kept_count(patches, share) == kept


def test_mae_A5_restoring_undoes_the_shuffle():
    noise = torch.rand(3, 20, generator=torch.Generator().manual_seed(0))
    split = split_patches(noise, 20)
    tokens = torch.randn(3, 20, 4)
    assert torch.equal(take(take(tokens, split.keep_BK), split.restore_BL), tokens)
    split = split_patches(noise, 5)
    assert torch.equal(split.hidden_BL == 0, torch.zeros(3, 20).scatter(1, split.keep_BK, 1).bool())
    assert (
        noise[split.hidden_BL == 0].reshape(3, 5).amax(1) < noise[split.hidden_BL == 1].reshape(3, 15).amin(1)
    ).all()


def test_mae_A6_positions_have_the_column_first_and_all_sines_before_all_cosines():
    table = sincos_2d(12, 2, 3)
    for row, column, half, index in np.ndindex(2, 3, 2, 6):
        angle = (column, row)[half] / 10000 ** ((index % 3) / 3)
        expected = math.sin(angle) if index < 3 else math.cos(angle)
        assert table[row * 3 + column, half * 6 + index].item() == pytest.approx(expected)


def test_mae_A7_class_token_has_no_position_is_never_hidden_and_never_rebuilt():
    method, view = tiny(), windows()
    assert not method.encoder.pos_embed[:, 0].any()
    assert not method.decoder_pos_embed[:, 0].any()
    split = method.hide(view.pixels_BCHW)
    seen = method.see(view.pixels_BCHW, split)
    assert seen.shape == (2, 1 + 4, 24)
    rebuilt = method.rebuild(seen, split, 4, 4)
    assert rebuilt.shape == (2, 16, 192)
    changed = seen.clone()
    changed[:, 0] += 1
    assert not torch.allclose(method.rebuild(changed, split, 4, 4), rebuilt)  # the decoder keeps it


def test_mae_A8_tokens_decay_and_norms_and_biases_do_not():
    method = tiny()
    optimizer = make_optimizer(method, TrainingConfig.model_validate(OFFICIAL["training"]))
    decays = {id(value): group["weight_decay"] for group in optimizer.param_groups for value in group["params"]}
    for name, value in method.named_parameters():
        if not value.requires_grad:
            assert id(value) not in decays, name
        else:
            assert decays[id(value)] == (0 if value.ndim == 1 else 0.05), name
    assert decays[id(method.encoder.cls_token)] == decays[id(method.mask_token)] == 0.05


@pytest.mark.parametrize("bands", [1, 2, 13])
def test_mae_A9_any_number_of_bands_is_rebuilt(bands):
    method, view = tiny(bands), windows(bands=bands)
    loss = method.loss(Sample(*view, torch.ones(2)), 0)
    assert method.decoder_pred.out_features == bands * 64
    assert torch.isfinite(loss.total)


def test_mae_A10_map_is_in_the_order_of_the_raster():
    encoder = tiny().encoder
    pixels = windows(side=48).pixels_BCHW[:, :, :32]
    dense = encoder.feature_maps(pixels)[-1].features_BDhw
    tokens = encoder.encode(encoder.embed(pixels))
    assert dense.shape == (2, 24, 4, 6)
    for row, column in np.ndindex(4, 6):
        torch.testing.assert_close(dense[:, :, row, column], tokens[:, 1 + row * 6 + column])


def test_mae_A11_mean_is_normalised_after_pooling():
    encoder = tiny().encoder
    torch.nn.init.normal_(encoder.norm.weight)
    pixels = windows().pixels_BCHW
    inside = []
    hook = encoder.blocks.register_forward_hook(lambda *given: inside.append(given[2]))
    ours = encoder.embedding(pixels)
    hook.remove()
    torch.testing.assert_close(ours, encoder.norm(inside[0][:, 1:].mean(1)))
    assert not torch.allclose(ours, encoder.norm(inside[0])[:, 1:].mean(1), atol=1e-2)


def test_mae_A12_first_learning_rate_is_0_and_every_step_has_its_own():
    assert warmup_cosine(0, 10, 3, 1e-3) == 0
    assert warmup_cosine(1.5, 10, 3, 1e-3) == pytest.approx(5e-4)
    assert warmup_cosine(3, 10, 3, 1e-3, 1e-5) == pytest.approx(1e-3)
    assert warmup_cosine(10, 10, 3, 1e-3, 1e-5) == pytest.approx(1e-5)
    config = TrainingConfig.model_validate(OFFICIAL["training"])
    for progress in (0, 0.02, 0.05, 0.3, 1):
        assert learning_rate(config, progress, 800) == pytest.approx(warmup_cosine(progress * 800, 800, 40, 1.5e-4))


def test_mae_A13_rectangle_gets_the_positions_of_its_own_rows_and_columns():
    method = tiny()
    view = windows(side=64)
    pixels = torch.zeros_like(view.pixels_BCHW[:, :, :24])
    tokens = method.encoder.embed(pixels) - method.encoder.patch_embed.proj.bias
    torch.testing.assert_close(tokens[0], sincos_2d(24, 3, 8).float(), atol=1e-5, rtol=0)
    sample = Sample(view.pixels_BCHW[:, :, :24], view.valid_BHW[:, :24], torch.ones(2))
    assert torch.isfinite(method.loss(sample, 0).total)
    with pytest.raises(UserError, match="multiple of 8 under 'Window'"):
        method.encoder.embed(view.pixels_BCHW[:, :, :20])


def test_mae_A14_nodata_is_never_rebuilt_and_a_patch_of_mostly_nodata_not_asked_for():
    method, view, hidden = tiny(norm_pix=False), windows(), half_hidden()
    view.valid_BHW[:, :4, 8:16] = False  # half of patch 1
    view.valid_BHW[:, :5, 24:32] = False  # more than half of patch 3
    target = method.target(view.pixels_BCHW, torch.ones(2, 16, 192))
    invalid = patchify(~view.valid_BHW[:, None].expand(-1, 3, -1, -1), 8)
    rebuilt = target + 1 + 1e6 * invalid
    rebuilt[:, 3] = 1e6
    assert method.error(rebuilt, view, hidden).item() == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize("norm_pix", [True, False])
def test_mae_A14_a_window_without_data_changes_neither_the_loss_of_others_nor_its_gradient(norm_pix):
    method, view, hidden = tiny(norm_pix=norm_pix), windows(), half_hidden()
    rebuilt = torch.randn(2, 16, 192, generator=torch.Generator().manual_seed(2), requires_grad=True)
    alone = method.error(rebuilt[:1], view.of(slice(0, 1)), hidden[:1])
    (grad_alone,) = torch.autograd.grad(alone, rebuilt)
    view.valid_BHW[1] = False
    both = method.error(rebuilt, view, hidden)
    (grad_both,) = torch.autograd.grad(both, rebuilt)
    torch.testing.assert_close(both, alone)
    torch.testing.assert_close(grad_both, grad_alone)


def test_mae_A14_spread_of_a_patch_is_that_of_its_valid_pixels():
    method, view = tiny(), windows()
    view.valid_BHW[:, :4, :8] = False
    valid = patchify(view.valid_BHW[:, None].expand(-1, 3, -1, -1).float(), 8)
    target = method.target(view.pixels_BCHW * view.valid_BHW[:, None], valid)[0, 0][valid[0, 0] > 0]
    assert target.mean().item() == pytest.approx(0, abs=1e-5)
    assert target.std().item() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_mae_A16_constant_windows_give_no_nan(precision):
    method = tiny()
    sample = Sample(torch.full((2, 3, 32, 32), 7.0), torch.ones(2, 32, 32, dtype=torch.bool), torch.ones(2))
    with torch.autocast("cpu", precision):
        total = method.loss(sample, 0).total
    total.backward()
    assert total.dtype == torch.float32
    assert all(torch.isfinite(value.grad).all() for value in method.parameters() if value.requires_grad)


def test_encoder_sees_the_kept_patches_alone():
    method, view = tiny(), windows()
    split = method.hide(view.pixels_BCHW)
    pixels = view.pixels_BCHW.clone()
    hidden = functional.interpolate(split.hidden_BL.reshape(2, 1, 4, 4), scale_factor=8).bool().expand_as(pixels)
    pixels[hidden] = 99
    torch.testing.assert_close(method.see(pixels, split), method.see(view.pixels_BCHW, split))


def test_an_encoder_without_patches_is_refused():
    with pytest.raises(UserError, match="encoder 'vit'"):
        MAE(MAEConfig(), ConvSmall(ConvSmallConfig(), 3))


def test_a_window_of_which_nothing_is_kept_is_refused():
    method = tiny(mask_ratio=0.95)
    with pytest.raises(UserError, match="Mask ratio"):
        method.hide(windows().pixels_BCHW)


def test_hidden_patches_differ_from_window_to_window():
    method = tiny()
    split: Split = method.hide(windows(8).pixels_BCHW)
    assert len({tuple(sorted(row)) for row in split.keep_BK.tolist()}) > 4
