"""Attention for pictures: it is the one that the network uses, of every transformer, laid out as the window is."""

import pytest
import torch
from rsfm.blocks.attention import last_attention
from rsfm.model_file import build_encoder

SHAPE = {"size": "free", "width": 48, "depth": 2, "heads": 3, "patch_size": 8, "window": 32}
ENCODERS = {
    "vit": {},
    "vit_learned": {"gsd_token": True},
    "vit_relative": {},
    "vit_grouped": {"group_width": 16},
    "vit_temporal": {"time_width": 24},
}


def make(name, **more):
    torch.manual_seed(0)
    return build_encoder({"name": name, **SHAPE, **ENCODERS[name], **more}, 4).eval()


@pytest.mark.parametrize("name", ENCODERS)
def test_every_head_attends_to_every_patch_and_to_no_more_than_all(name):
    encoder, pixels_BCHW = make(name), torch.randn(2, 4, 32, 40)
    weights_BAhw = last_attention(encoder, pixels_BCHW)
    assert weights_BAhw.shape == (2, 3, 4, 5)
    assert (weights_BAhw > 0).all()
    total_BA = weights_BAhw.sum((2, 3))
    assert (total_BA < 1).all()
    assert (total_BA > 0.5).all()  # the rest is the class token's, and the pixel size's if there is one


@pytest.mark.parametrize("name", ENCODERS)
def test_looking_changes_nothing_that_the_encoder_says(name):
    encoder, pixels_BCHW = make(name), torch.randn(2, 4, 32, 32)
    with torch.no_grad():
        before_BD = encoder.embedding(pixels_BCHW)
        last_attention(encoder, pixels_BCHW)
        assert torch.equal(before_BD, encoder.embedding(pixels_BCHW))


@pytest.mark.parametrize("pooling", ["class", "mean"])
def test_attention_is_what_queries_and_keys_say(pooling):
    encoder, pixels_BCHW = make("vit", pooling=pooling), torch.randn(2, 4, 32, 32)
    with torch.no_grad():
        *first, last = encoder.blocks
        tokens_BTD = encoder._with_class(encoder.embed(pixels_BCHW))
        for block in first:
            tokens_BTD = block(tokens_BTD)
        both = last.attn.qkv(last.norm1(tokens_BTD)).reshape(2, 17, 3, 3, 16)
        query_BTAE, key_BTAE = both[:, :, 0], both[:, :, 1]
        weights_BATT = (torch.einsum("btae,bsae->bats", query_BTAE, key_BTAE) / 4).softmax(-1)
    asked = slice(0, 1) if pooling == "class" else slice(1, None)
    expected_BAhw = weights_BATT[:, :, asked, 1:].mean(2).reshape(2, 3, 4, 4)
    torch.testing.assert_close(last_attention(encoder, pixels_BCHW), expected_BAhw)
