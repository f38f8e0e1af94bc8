"""Transformers over slices: maps lie as the raster does, and slices are averaged."""

import pytest
import torch
from rsfm.blocks.sliced_vit import SlicedViT, fold
from rsfm.encoders.vit_grouped import ViTGrouped, ViTGroupedConfig
from rsfm.encoders.vit_temporal import ViTTemporal, ViTTemporalConfig
from rsfm.errors import UserError

SMALL = {"patch_size": 4, "window": 16, "width": 36, "depth": 2, "heads": 2}
TIMES = torch.tensor([[[18, 5, 10], [3, 0, 7]]])


def make(kind: str) -> SlicedViT:
    torch.manual_seed(0)
    if kind == "dates":
        return ViTTemporal(ViTTemporalConfig(**SMALL, time_width=12, year=2020, month=6, hour=10), 4).eval()
    return ViTGrouped(ViTGroupedConfig(**SMALL, group_width=12, groups="4,1; 2,3"), 4).eval()


def test_fold_averages_slices_and_keeps_rows_and_columns():
    tokens = torch.zeros(1, 2 * 6, 1)
    tokens[0, 4], tokens[0, 6 + 4] = 10, 20  # row 1, column 1 of two rows of three
    expected = torch.zeros(1, 1, 2, 3)
    expected[0, 0, 1, 1] = 15
    assert torch.equal(fold(tokens, 2, 3), expected)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["dates", "groups"])
def test_map_is_the_mean_of_the_slices_of_each_place_in_windows_of_any_shape(kind):
    encoder, pixels = make(kind), torch.randn(1, 4, 8, 24)
    tokens = encoder.encode(encoder.embed(*encoder.dateless(pixels)))[:, 1:]
    features = encoder.feature_maps(pixels)[-1].features_BDhw
    assert features.shape == (1, 36, 2, 6)
    for row, column in ((0, 0), (1, 4)):
        cells = [tokens[0, first + row * 6 + column] for first in range(0, tokens.shape[1], 12)]
        torch.testing.assert_close(features[0, :, row, column], torch.stack(cells).mean(0))


@torch.no_grad()
def test_window_without_a_date_is_taken_at_the_assumed_one():
    encoder, pixels = make("dates"), torch.randn(1, 4, 16, 16)
    torch.testing.assert_close(encoder.embedding(pixels), encoder.dated_embedding(pixels[:, None], TIMES[:, :1]))
    assert not torch.allclose(encoder.embedding(pixels), encoder.dated_embedding(pixels[:, None], TIMES[:, 1:]))


@torch.no_grad()
def test_a_band_reaches_only_the_tokens_of_its_group():
    encoder, pixels = make("groups"), torch.randn(1, 1, 4, 16, 16)
    other = pixels.clone()
    other[:, :, 2] += 1
    same = (encoder.cut(pixels) == encoder.cut(other)).flatten(2).all(2)[0]
    assert same.tolist() == [True, False]


@torch.no_grad()
def test_bands_of_a_group_pass_in_the_order_they_are_named():
    encoder, pixels = make("groups"), torch.randn(1, 1, 4, 16, 16)
    embed = encoder.patch_embed[0].proj
    expected = sum((pixels[0, 0, band, :4, :4] * embed.weight[7, place]).sum() for place, band in enumerate((3, 0)))
    torch.testing.assert_close(encoder.cut(pixels)[0, 0, 0, 7], expected + embed.bias[7])


def test_widths_and_windows_that_cannot_be_are_sentences():
    with pytest.raises(UserError, match="leaves 30 for the place"):
        ViTTemporal(ViTTemporalConfig(**SMALL, time_width=6), 3)
    with pytest.raises(UserError, match="multiple of 4"):
        make("dates").embedding(torch.zeros(1, 4, 16, 18))
    with pytest.raises(ValueError, match="multiple of heads"):
        ViTGroupedConfig(width=100, heads=3)
