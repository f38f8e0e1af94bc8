"""The adapter around encoders of other patches than its authors', and what it leaves as it was."""

import pytest
import torch
from rsfm.blocks.vit_adapter import STRIDES, ViTAdapter, ViTAdapterConfig, split_blocks
from rsfm.encoders.conv_small import ConvSmall, ConvSmallConfig
from rsfm.encoders.vit import ViT, ViTConfig
from rsfm.encoders.vit_learned import ViTLearned, ViTLearnedConfig
from rsfm.errors import UserError

SMALL = ViTAdapterConfig(prior_width=8)


def adapter(patch, bands=5, depth=4, member=ViTLearned, config=ViTLearnedConfig):
    torch.manual_seed(patch)
    encoder = member(config(patch_size=patch, window=32, width=24, depth=depth, heads=2), bands)
    return ViTAdapter(SMALL, encoder).eval()


@pytest.mark.parametrize("patch", [2, 8, 16, 32])
@pytest.mark.parametrize(("member", "config"), [(ViT, ViTConfig), (ViTLearned, ViTLearnedConfig)])
def test_any_patch_that_divides_32_gives_maps_of_all_strides(patch, member, config):
    maps = adapter(patch, member=member, config=config).feature_maps(torch.randn(2, 5, 64, 96))
    assert [each.stride for each in maps] == list(STRIDES)
    assert [tuple(each.features_BDhw.shape) for each in maps] == [
        (2, 24, 64 // stride, 96 // stride) for stride in STRIDES
    ]


def test_every_part_learns():
    made = adapter(8).train()
    for name, parameter in made.named_parameters():
        if name.endswith(("injector.gamma", "sampling_offsets.weight", "attention_weights.weight")):
            torch.nn.init.normal_(parameter, 0, 0.1)
    sum(each.features_BDhw.square().mean() for each in made.feature_maps(torch.randn(2, 5, 64, 64))).backward()
    still = {name for name, value in made.named_parameters() if value.grad is None or value.grad.abs().sum() == 0}
    assert still == {"encoder.cls_token", "encoder.norm.weight", "encoder.norm.bias"}


def test_gradients_of_all_maps_are_those_of_small_differences():
    made, pixels = adapter(16, bands=2).double(), torch.randn(1, 2, 64, 32, dtype=torch.float64)
    step = 1e-5
    for interaction in made.interactions:
        torch.nn.init.normal_(interaction.injector.gamma)

    def loss():
        return sum(each.features_BDhw.square().mean() for each in made.feature_maps(pixels))

    loss().backward()
    for parameter in (made.interactions[0].injector.gamma, made.level_embed, made.norm4.weight):
        values, gradients = parameter.data.flatten(), parameter.grad.flatten()
        assert values.data_ptr() == parameter.data_ptr()
        with torch.no_grad():
            for at in (0, 7):
                values[at] += step
                above = loss()
                values[at] -= 2 * step
                below = loss()
                values[at] += step
                expected = ((above - below) / (2 * step)).item()
                assert gradients[at].item() == pytest.approx(expected, rel=1e-3, abs=1e-7)


def test_saving_memory_changes_no_gradient():
    torch.manual_seed(0)
    pixels, gradients = torch.randn(2, 5, 64, 64), []
    for save in (False, True):
        made = adapter(16)
        made.save_memory = save
        made.train()
        sum(each.features_BDhw.square().mean() for each in made.feature_maps(pixels)).backward()
        gradients.append(made.spm.stem[0].weight.grad)
    assert torch.allclose(*gradients, atol=1e-7)


def test_maps_of_a_trained_adapter_follow_each_window_alone():
    made, pixels = adapter(4), torch.randn(3, 5, 32, 64)
    with torch.no_grad():
        together = made.feature_maps(pixels)
        alone = made.feature_maps(pixels[1:2])
    for one, other in zip(together, alone, strict=True):
        assert torch.allclose(one.features_BDhw[1:2], other.features_BDhw, atol=1e-5)


@pytest.mark.parametrize(("depth", "parts"), [(12, 3), (24, 6), (4, 1)])
def test_blocks_are_split_in_four(depth, parts):
    assert split_blocks(depth) == [(at * parts, at * parts + parts - 1) for at in range(4)]


@pytest.mark.parametrize("depth", [1, 2, 3, 5, 7, 40])
def test_every_block_is_passed_once_and_in_order(depth):
    assert [at for first, last in split_blocks(depth) for at in range(first, last + 1)] == list(range(depth))
    assert adapter(16, depth=min(depth, 7)).feature_maps(torch.randn(1, 5, 64, 64))


def test_encoders_that_it_cannot_go_around_are_refused_in_words():
    with pytest.raises(UserError, match="14 px"):
        ViTAdapter(SMALL, ViTLearned(ViTLearnedConfig(patch_size=14, window=28, width=24, depth=4, heads=2), 3))
    with pytest.raises(UserError, match="plain patches"):
        ViTAdapter(SMALL, ConvSmall(ConvSmallConfig(), 3))


def test_windows_of_no_whole_number_of_patches_are_refused_in_words():
    with pytest.raises(UserError, match="multiple of 32"):
        adapter(8).feature_maps(torch.randn(1, 5, 40, 64))
