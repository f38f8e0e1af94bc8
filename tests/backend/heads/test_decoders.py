"""What every decoder owes its user, on the maps of every encoder; and UPerNet against mmsegmentation's numbers."""

import json
import os
from pathlib import Path

import pytest
import torch
from rsfm import encoders, heads, registry
from rsfm.blocks.conv_norm import BatchNorm
from rsfm.blocks.levels import choose_maps
from rsfm.blocks.transformer import quarters
from rsfm.encoder import FeatureMap, MapShape
from rsfm.golden import main
from rsfm.head import Decoder, Head
from rsfm.heads.dpt import level_strides
from rsfm.heads.upernet import AuxiliaryHead, UPerHead, UPerNet, UPerNetConfig
from rsfm.model_file import build_encoder, new_decoder
from safetensors.torch import save_file

from .plain_upernet import plain_auxiliary, plain_upernet

GOLDEN = Path(os.environ.get("RSFM_GOLDEN", Path(__file__).parents[4] / "shared" / "golden"))
DECODERS = [name for name, member in registry.members(heads, Head).items() if issubclass(member, Decoder)]
SMALL = {"upernet": {"channels": 16, "auxiliary_channels": 8}, "dpt": {"channels": 16}}
TRANSFORMER = {"name": "vit", "width": 24, "depth": 5, "heads": 2}
ENCODERS = [
    *({"name": name} for name in registry.names(encoders)),
    {**TRANSFORMER, "patch_size": 16, "window": 64},
    {**TRANSFORMER, "patch_size": 14, "window": 28},
    {**TRANSFORMER, "patch_size": 7, "window": 28, "depth": 1},
]
CASES = {
    "wide": {"seed": 1, "widths": (6, 10, 14, 18), "channels": 8, "fusion": 8, "classes": 3, "scales": (1, 2, 3, 6),
             "size": (20, 36), "auxiliary": (5, 1)},
    "other_reading": {"seed": 2, "widths": (9, 9, 9, 9), "channels": 12, "fusion": 5, "classes": 2, "scales": (1, 2),
                      "size": (16, 16), "auxiliary": (7, 2)},
    "three_levels": {"seed": 3, "widths": (4, 8, 12), "channels": 4, "fusion": 4, "classes": 11, "scales": (1, 3, 5),
                     "size": (40, 24), "auxiliary": (4, 1)},
}  # fmt: skip


def make(name, encoder, classes=5):
    torch.manual_seed(0)
    return new_decoder({"name": name, **SMALL[name]}, encoder, classes)


@pytest.mark.parametrize("encoder", ENCODERS, ids=lambda config: f"{config['name']}{config.get('patch_size', '')}")
@pytest.mark.parametrize("name", DECODERS)
def test_every_decoder_learns_from_every_encoder_and_answers_at_the_pixels(name, encoder):
    torch.manual_seed(0)
    encoder = build_encoder(encoder, 4).train()
    decoder = make(name, encoder).train()
    side = torch.lcm(torch.tensor(encoder.stride), torch.tensor(decoder.multiple)).item()
    pixels = torch.randn(2, 4, side, 2 * side)
    maps = encoder.feature_maps(pixels)
    answers = decoder.answers(maps, side, 2 * side)
    assert all(answer.logits_BKHW.shape == (2, 5, side, 2 * side) for answer in answers)
    assert answers[0].weight == 1
    sum(answer.weight * answer.logits_BKHW.square().mean() for answer in answers).backward()
    assert not [key for key, value in decoder.named_parameters() if value.grad is None]
    decoder.eval()
    with torch.no_grad():
        alone = decoder([FeatureMap(each[:1], stride) for each, stride in maps], side, 2 * side)
        torch.testing.assert_close(alone, decoder(maps, side, 2 * side)[:1], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", sorted(CASES))
def test_upernet_of_other_sizes_is_what_plain_formulas_give(name, tmp_path, capsys):
    folder = tmp_path / f"upernet_{name}"
    write_case(folder, CASES[name])
    assert main([str(folder)]) == 0, capsys.readouterr().out
    printed = capsys.readouterr().out
    assert "3 compared" in printed


def test_upernet_is_mmsegmentations(capsys):
    if not (GOLDEN / "upernet").is_dir():
        pytest.skip(f"the golden numbers are not there: {GOLDEN / 'upernet'} (set RSFM_GOLDEN)")
    assert main([str(GOLDEN / "upernet")]) == 0
    printed = capsys.readouterr().out
    assert "3 compared, 0 over" in printed
    assert "not compared" not in printed


def test_a_changed_number_of_upernet_is_found(tmp_path, capsys):
    case = CASES["wide"]
    write_case(tmp_path / "upernet_changed", case, change=1e-3)
    assert main([str(tmp_path / "upernet_changed")]) == 1
    assert sum("OVER" in line for line in capsys.readouterr().out.splitlines()) == 1


def test_upernet_learns_from_a_single_window():
    """Pooled to one cell, a feature of one window is one value, of which batch norm knows no variance."""
    torch.manual_seed(0)
    encoder = build_encoder({"name": "conv_small"}, 3)
    decoder = make("upernet", encoder).train()
    maps = encoder.feature_maps(torch.randn(1, 3, 64, 64))
    loss = decoder(maps, 64, 64).square().mean()
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(value.grad).all() for value in decoder.parameters() if value.grad is not None)


def test_batch_norm_of_several_values_is_torchs():
    ours, theirs = BatchNorm(4).train(), torch.nn.BatchNorm2d(4).train()
    for _ in range(2):
        features = torch.randn(3, 4, 1, 1)
        torch.testing.assert_close(ours(features), theirs(features))
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())
    before = ours.running_mean.clone()
    ours(torch.randn(1, 4, 1, 1))
    assert torch.equal(ours.running_mean, before)


def test_both_readings_of_peras_channels_can_be_set():
    shapes = [MapShape(8, stride) for stride in (4, 8, 16, 32)]
    published = UPerNet(UPerNetConfig(channels=512, auxiliary_channels=256), shapes, 6)
    assert published.decode_head.conv_seg.in_channels == 512
    assert published.auxiliary_head.conv_seg.in_channels == 256
    other = UPerNet(UPerNetConfig(channels=64, fusion_channels=32, auxiliary_channels=0), shapes, 6)
    assert other.decode_head.conv_seg.in_channels == 32
    assert len(other.answers([FeatureMap(torch.randn(2, 8, 32 // s, 32 // s), s) for s in (1, 2, 4, 8)], 32, 32)) == 1


@pytest.mark.parametrize(("depth", "ends"), [(12, [3, 6, 9, 12]), (24, [6, 12, 18, 24]), (5, [1, 2, 3, 5]), (1, [1])])
def test_maps_of_transformers_come_from_the_end_of_each_quarter(depth, ends):
    assert quarters(depth) == ends


def test_early_blocks_make_fine_levels_and_own_maps_are_taken():
    plain = [MapShape(8, 16)] * 4
    assert choose_maps(plain, (4, 8, 16, 32)) == [0, 1, 2, 3]
    assert choose_maps(plain[:1], (4, 8, 16, 32)) == [0, 0, 0, 0]
    assert choose_maps([MapShape(4, stride) for stride in (4, 8, 16, 32)], (4, 8, 16, 32)) == [0, 1, 2, 3]
    assert choose_maps([MapShape(4, 2), MapShape(8, 4), MapShape(16, 4)], (4, 8, 16, 32)) == [2, 2, 2, 2]


@pytest.mark.parametrize(("patch", "strides"), [(16, [4, 8, 16, 32]), (8, [4, 8, 16, 32]), (14, [3.5, 7, 14, 28])])
def test_dpt_fits_patches_that_are_not_16(patch, strides):
    assert level_strides(patch) == strides


def write_case(folder, case, change=0.0):
    """Write a case as the golden ones are, of random weights and the numbers of slow plain formulas."""
    folder.mkdir()
    torch.manual_seed(case["seed"])
    height, width = case["size"]
    levels = [
        torch.randn(2, features, height >> level, width >> level) for level, features in enumerate(case["widths"])
    ]
    head = UPerHead(case["widths"], case["channels"], case["fusion"], case["classes"], case["scales"])
    auxiliary = AuxiliaryHead(case["widths"][-2], case["auxiliary"][0], case["classes"], case["auxiliary"][1])
    weights = {}
    for prefix, module in (("decode_head", head), ("auxiliary_head", auxiliary)):
        for name, value in module.state_dict().items():
            filled = value if value.dtype == torch.int64 else torch.rand_like(value) * 0.4 + 0.1
            weights[f"{prefix}.{name}"] = filled - (0.3 if name.endswith("conv.weight") else 0)
    seen, logits = plain_upernet(weights, levels, case["scales"])
    logits[1, 0, 2, 3] += change
    arrays = {f"feat{index}": level for index, level in enumerate(levels, start=1)}
    arrays |= {"psp_out": seen, "logits": logits, "aux_logits": plain_auxiliary(weights, levels[-2])}
    save_file(weights, folder / "weights.safetensors")
    save_file({name: value.float().contiguous() for name, value in arrays.items()}, folder / "io.safetensors")
    (folder / "config.json").write_text(json.dumps({"pool_scales": list(case["scales"])}))
