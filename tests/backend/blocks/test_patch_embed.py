"""Patches as tokens: the product gives what the strided convolution gives."""

import pytest
import torch
from rsfm.blocks.patch_embed import PatchEmbed


@pytest.mark.parametrize(
    ("bands", "patch", "height", "width"), [(1, 4, 8, 8), (3, 16, 48, 32), (13, 8, 24, 40), (2, 4, 11, 9)]
)
def test_tokens_and_gradients_are_those_of_the_convolution(bands, patch, height, width):
    torch.manual_seed(0)
    embed = PatchEmbed(None, patch, bands, 12).double()
    pixels = torch.randn(2, bands, height, width, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, (height // patch) * (width // patch), 12, dtype=torch.float64)

    def found():
        tokens = embed(pixels)
        return tokens, *torch.autograd.grad((tokens * weight).sum(), [pixels, embed.proj.weight, embed.proj.bias])

    product = found()
    embed.is_product = False
    for one, other in zip(product, found(), strict=True):
        torch.testing.assert_close(one, other)


def test_weights_have_the_names_and_shapes_of_checkpoints():
    state = PatchEmbed(None, 4, 3, 12).state_dict()
    assert {name: tuple(value.shape) for name, value in state.items()} == {
        "proj.weight": (12, 3, 4, 4),
        "proj.bias": (12,),
    }
