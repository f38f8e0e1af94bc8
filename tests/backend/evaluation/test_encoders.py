"""The protocols for encoders: the sides of SatDINO's scales, what probes read, and a run from end to end."""

import json

import numpy as np
import pytest
import torch
from rsfm import model_file
from rsfm.encoders.conv_small import ConvSmall, ConvSmallConfig
from rsfm.encoders.vit_learned import ViTLearned, ViTLearnedConfig
from rsfm.evaluation.linear_probe import Recipe, fresh_layer, shuffled, train_probe
from rsfm.evaluation.probe_features import class_and_mean, class_tokens, linear_features, look_at, scaled_side
from rsfm.model_file import Card
from rsfm.raster.reader import open_raster
from rsfm.raster.statistics import band_statistics

from tests.backend.evaluation.test_evaluate import squares
from tests.backend.toy_model import run_job


@pytest.mark.parametrize(
    ("side", "scale", "patch", "expected"),
    [(64, 0.125, 16, 16), (256, 0.125, 16, 32), (600, 0.25, 16, 144), (512, 1.0, 16, 512), (200, 0.5, 8, 96)],
)
def test_sides_are_whole_patches_and_one_at_least(side, scale, patch, expected):
    assert scaled_side(side, scale, patch) == expected


@pytest.mark.parametrize("side", [16, 32, 224])
def test_a_look_is_the_middle_of_a_window_made_larger(side):
    ramp = torch.linspace(-1, 1, 300)
    pixels = torch.stack([ramp.expand(300, 300), ramp[:, None].expand(300, 300)])[None]
    seen = look_at(pixels, side)
    assert seen.shape == (1, 2, side, side)
    assert abs(seen[0].mean().item()) < 0.03
    assert seen[0, 0].max().item() == pytest.approx(side / round(side * 256 / 224), abs=0.08)


def encoder(token=False):
    torch.manual_seed(0)
    config = ViTLearnedConfig(patch_size=4, window=8, width=12, depth=5, heads=3, gsd_token=token)
    return ViTLearned(config, 2).eval()


@pytest.mark.parametrize("token", [False, True])
def test_class_and_mean_alternate_and_the_token_of_the_pixel_size_is_no_patch(token):
    made, pixels = encoder(token), torch.randn(3, 2, 8, 16)
    with torch.no_grad():
        found = class_and_mean(made, pixels)
        assert torch.allclose(found[:, ::2], made.embedding(pixels), atol=1e-6)
        dense = made.feature_maps(pixels)[-1].features_BDhw.flatten(2).mean(2)
        assert torch.allclose(found[:, 1::2], dense, atol=1e-6)


def test_four_blocks_stand_oldest_first_and_encoders_without_class_token_give_their_vector():
    made, pixels = encoder(), torch.randn(2, 2, 8, 8)
    with torch.no_grad():
        assert torch.equal(linear_features(made, pixels), class_tokens(made, pixels, 4))
        assert torch.allclose(linear_features(made, pixels)[:, -12:], made.embedding(pixels), atol=1e-6)
        conv = ConvSmall(ConvSmallConfig(), 2).eval()
        large = torch.randn(2, 2, 32, 32)
        assert torch.equal(linear_features(conv, large), conv.embedding(large))
    assert not made.blocks[0]._forward_hooks


def test_one_window_is_enough_and_the_same_seed_trains_alike():
    recipe, found = Recipe("sgd", 0.5, 4, 8), []
    for _ in range(2):
        layer = fresh_layer(3, 2, 7)
        trained = train_probe(layer, torch.ones(1, 3), torch.tensor([1]), recipe, shuffled(1, 4, 7))
        found.append(layer.weight.detach())
        assert len(trained.losses) == 4
        assert trained.rates[0] == 0.5 * 8 / 256
    assert torch.equal(*found)


def test_a_run_tells_all_protocols_and_finds_what_pixels_show(tmp_path, make_raster):
    random = np.random.default_rng(0)
    classes_HW = random.integers(0, 2, (12, 12))
    pixels_CHW = random.normal(0, 1, (3, 384, 384)) + 4 * np.kron(classes_HW, np.ones((32, 32)))
    path = make_raster(pixels_CHW.astype("float32"))
    boxes = [
        (row * 32 + 8, column * 32 + 8, 16, ["dark", "light"][classes_HW[row, column]])
        for row in range(12)
        for column in range(12)
    ]
    labels = squares(tmp_path / "labels.gpkg", boxes)
    config = {"name": "vit_learned", "patch_size": 8, "window": 32, "width": 24, "depth": 4, "heads": 2}
    with open_raster(str(path)) as raster:
        statistics = band_statistics([raster], [raster.grid.window], 0)
    torch.manual_seed(0)
    card = Card(bands=3, statistics=statistics, gsd=10, window=32, encoder=config)
    made = model_file.build_encoder(config, 3)
    model_file.save(tmp_path / "encoder.safetensors", card, model_file.parts(encoder=made))
    run_job(
        tmp_path, "evaluate_encoder", "one", raster=str(path), model=str(tmp_path / "encoder.safetensors"),
        labels=labels, device="cpu",
    )  # fmt: skip
    result = json.loads((tmp_path / "one" / "run.json").read_text())["result"]
    right = result["right"]
    assert right["logistic_pixels"] > 0.95
    assert right["neighbours_20"] > 0.8
    assert {"neighbours_10", "neighbours_200", "neighbours_of_scales", "linear_dino", "linear_satdino"} <= set(right)
    assert 0.3 < right["most_frequent"] < 0.75
    assert "held-out places" in result["sentence"]
