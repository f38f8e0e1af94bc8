"""BIT: the authors' numbers, plain formulas in other sizes, and what holds on any of our encoders."""

import json

import pytest
import torch
from rsfm.blocks.bit import Bit, BitShape
from rsfm.differences.change_network import new_change_network
from rsfm.encoder import FeatureMap
from rsfm.encoders.resnet import ResNet, ResNetConfig
from rsfm.golden import main
from rsfm.model_file import build_encoder

from tests.backend.differences.bit_case import write_bit_case
from tests.backend.test_golden import golden

CASES = {
    "wide": {
        "seed": 3, "width": 16, "tokens": 3, "depth": 2, "inner": 128, "decoder_depth": 1, "wide": 64, "features": 12,
        "size": (5, 7), "bands": 5, "stages": (8, 12, 16, 20), "kept": 3,
    },
    "deep": {
        "seed": 4, "width": 40, "tokens": 6, "depth": 1, "inner": 32, "decoder_depth": 3, "wide": 16, "features": 9,
        "size": (4, 4), "bands": 1, "stages": (6, 8, 10, 14), "kept": 4,
    },
    "two_stages": {
        "seed": 2**31, "width": 8, "tokens": 1, "depth": 1, "inner": 64, "decoder_depth": 2, "wide": 8, "features": 4,
        "size": (3, 9), "bands": 13, "stages": (4, 6, 8, 10), "kept": 2,
    },
}  # fmt: skip
ENCODERS = [
    {"name": "conv_small", "width": 32},
    {"name": "resnet", "depth": "18"},
    {"name": "vit", "width": 24, "depth": 2, "heads": 2, "patch_size": 16, "window": 64},
    {"name": "vit", "width": 24, "depth": 2, "heads": 2, "patch_size": 7, "window": 28},
]


def test_every_array_of_the_authors_is_compared_and_within_its_tolerance(capsys):
    assert main([str(golden("bit"))]) == 0
    printed = capsys.readouterr().out
    assert " 0 over" in printed
    assert "not compared" not in printed
    named = set(json.loads((golden("bit") / "config.json").read_text())["arrays"])
    given = {"feat1", "feat2", "target", "full_img1", "full_img2", "metric_gt", "metric_pred"}
    assert not {name for name in named - given if f"  {name} " not in printed}


@pytest.mark.parametrize("name", CASES)
def test_bit_of_other_sizes_is_what_plain_formulas_give(name, tmp_path, capsys):
    write_bit_case(tmp_path / f"bit_{name}", CASES[name])
    code = main([str(tmp_path / f"bit_{name}")])
    printed = capsys.readouterr().out
    assert code == 0, printed
    assert "not compared" not in printed


@pytest.mark.parametrize("encoder", ENCODERS, ids=lambda encoder: f"{encoder['name']}{encoder.get('patch_size', '')}")
@pytest.mark.parametrize("head", ["bit", "siamese"])
@pytest.mark.parametrize("bands", [1, 5])
def test_every_head_learns_on_every_encoder_and_the_order_of_the_dates_means_nothing(encoder, head, bands):
    torch.manual_seed(0)
    network = new_change_network({"name": head, "width": 16}, build_encoder(encoder, bands), 3).train()
    multiple = network.head.multiple
    size = [max(-(-wanted // multiple), 2) * multiple for wanted in (48, 64)]
    before, after = torch.randn(2, 2, bands, *size)
    logits = network(before, after)
    assert logits.shape == (2, 3, *size)
    logits.square().mean().backward()
    without = [name for name, value in network.head.named_parameters() if value.grad is None]
    assert not without
    network.eval()
    with torch.no_grad():
        torch.testing.assert_close(network(before, after), network(after, before), atol=1e-5, rtol=1e-4)


def test_only_the_positions_of_tokens_tell_the_dates_apart():
    torch.manual_seed(0)
    head = Bit(8, 2, BitShape(width=16)).eval()
    one, other = (FeatureMap(torch.randn(1, 8, 6, 6), 8) for _ in range(2))
    with torch.no_grad():
        assert not torch.allclose(head(one, other, 48, 48), head(other, one, 48, 48))
        head.positions[:, 4:] = head.positions[:, :4]
        torch.testing.assert_close(head(one, other, 48, 48), head(other, one, 48, 48))


def test_a_resnet_kept_fine_has_the_weights_it_had():
    encoder = ResNet(ResNetConfig(), 4).eval()
    names = set(encoder.state_dict())
    pixels = torch.randn(1, 4, 64, 96)
    usual = encoder.feature_maps(pixels)
    encoder.keep_fine(8, 3)
    fine = encoder.feature_maps(pixels)
    assert [stride for _, stride in fine] == [4, 8, 8]
    assert fine[-1].features_BDhw.shape == (1, 256, 8, 12)
    assert (encoder.stride, encoder.width) == (8, 256)
    torch.testing.assert_close(fine[1].features_BDhw, usual[1].features_BDhw)
    assert set(encoder.state_dict()) == names
