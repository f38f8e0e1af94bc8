"""What every encoder owes its user, run over the folder; and the three of them against their originals."""

import pytest
import torch
import torchvision
from rsfm import encoders, registry
from rsfm.encoder import Encoder
from rsfm.encoders.conv_small import ConvSmall, ConvSmallConfig
from rsfm.encoders.resnet import Layout, ResNet, ResNetConfig
from rsfm.encoders.vit import ViT, ViTConfig

NAMES = registry.names(encoders)


def make(name: str, bands: int) -> Encoder:
    torch.manual_seed(0)
    member = registry.member(encoders, name, Encoder)
    return member(member.Config(), bands).eval()


@pytest.mark.parametrize("bands", [1, 4, 13])
@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_maps_and_vector_have_the_shapes_they_promise(name, bands):
    encoder = make(name, bands)
    pixels = torch.randn(2, bands, 2 * max(encoder.stride, 16), 64)
    maps = encoder.feature_maps(pixels)
    for features, stride in maps:
        assert features.shape[0] == 2
        assert features.shape[2:] == (pixels.shape[2] // stride, 64 // stride)
    assert [stride for _, stride in maps] == sorted(stride for _, stride in maps)
    assert maps[-1].stride == encoder.stride
    assert maps[-1].features_BDhw.shape[1] == encoder.width
    assert encoder.embedding(pixels).shape == (2, encoder.width)
    assert encoder.bands == bands


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_a_pixel_beyond_the_margin_changes_nothing_and_one_well_inside_does(name):
    encoder = make(name, 2)
    if encoder.margin is None:
        pytest.skip("this encoder sees the whole tile")
    stride, margin = encoder.stride, encoder.margin
    assert margin % stride == 0
    encoder, cells = encoder.double(), 2 * margin // stride + 5
    cell, size = cells // 2, cells * stride
    reached = []
    for place in range(0, size, 1 if stride == 4 else 32):
        pixels = torch.zeros(1, 2, stride, size, dtype=torch.double)
        before = encoder.feature_maps(pixels)[-1].features_BDhw[..., cell]
        pixels[..., place] = 1e6
        if not torch.equal(encoder.feature_maps(pixels)[-1].features_BDhw[..., cell], before):
            reached.append(place)
    assert cell * stride - margin <= min(reached)
    assert max(reached) < (cell + 1) * stride + margin
    assert cell * stride - min(reached) > 0.4 * margin


@torch.no_grad()
def test_conv_small_reaches_18_pixels():
    encoder = ConvSmall(ConvSmallConfig(), 1).double().eval()
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(1, 1, 4, 80, generator=generator, dtype=torch.double)
    before = encoder.feature_maps(pixels)[-1].features_BDhw[..., 10]
    changed = []
    for place in range(80):
        other = pixels.clone()
        other[..., place] += 10
        if not torch.equal(encoder.feature_maps(other)[-1].features_BDhw[..., 10], before):
            changed.append(40 - place)
    assert max(changed) == 18
    assert min(changed) >= -18
    assert encoder.margin == 20


@pytest.mark.parametrize(
    ("depth", "original"), [("18", torchvision.models.resnet18), ("50", torchvision.models.resnet50)]
)
@torch.no_grad()
def test_resnet_is_torchvisions_with_its_names(depth, original):
    ours, theirs = ResNet(ResNetConfig(depth=depth), 3).eval(), original().eval()
    theirs.fc = torch.nn.Identity()
    ours.load_state_dict(theirs.state_dict())
    pixels = torch.randn(2, 3, 64, 96)
    torch.testing.assert_close(ours.embedding(pixels), theirs(pixels))


def test_narrow_resnet_has_the_widths_it_is_given():
    encoder = ResNet(ResNetConfig(), 5, Layout("bottleneck", (1, 2, 1, 1), (4, 6, 8, 10)))
    maps = encoder.eval().feature_maps(torch.randn(1, 5, 64, 64))
    assert [features.shape[1] for features, _ in maps] == [16, 24, 32, 40]
    assert encoder.width == 40


def test_vit_of_a_published_size_has_the_names_and_shapes_of_the_authors():
    encoder = ViT(ViTConfig(size="base", patch_size=16, window=224), 3)
    shapes = {name: tuple(value.shape) for name, value in encoder.state_dict().items()}
    assert shapes["pos_embed"] == (1, 197, 768)
    assert shapes["patch_embed.proj.weight"] == (768, 3, 16, 16)
    assert shapes["blocks.11.attn.qkv.weight"] == (2304, 768)
    assert len(shapes) == 4 + 12 * 12 + 2
    assert not encoder.pos_embed.requires_grad


@pytest.mark.parametrize(
    ("values", "said"), [({"width": 100, "heads": 3}, "multiple of heads"), ({"window": 30}, "multiple of the patch")]
)
def test_vit_that_cannot_be_is_refused(values, said):
    with pytest.raises(ValueError, match=said):
        ViTConfig(**values)
