"""What methods show of themselves is what their loss is computed from."""

import pytest
import torch
from rsfm import methods, registry
from rsfm.blocks.masking import patchify, unpatchify
from rsfm.method import Dates, Method, Sample
from rsfm.model_file import build_encoder

from tests.backend.test_methods import CASES, make, windows

REBUILD = {"mae", "satmae", "pera"}


def build(name, encoder, **config):
    torch.manual_seed(0)
    member = registry.member(methods, name, Method)
    return member(member.Config(**config), build_encoder(encoder, 4)).eval()


def hidden_error(pictures, norm=None):
    """Mean squared error where the second picture hides what the first shows."""
    window, seen, rebuilt = pictures
    hidden = window.shown_BTCHW & ~seen.shown_BTCHW
    return (rebuilt.pixels_BTCHW - window.pixels_BTCHW)[hidden].square().mean()


@pytest.mark.parametrize("name", CASES)
def test_pictures_are_of_one_shape_and_hide_something(name):
    method, side = make(name, 4)
    with torch.no_grad():
        pictures = method.eval().pictures(windows(4, side, invalid=0.05))
    assert bool(pictures) == (method.name in REBUILD)
    for picture in pictures:
        assert picture.pixels_BTCHW.shape == picture.shown_BTCHW.shape == pictures[0].pixels_BTCHW.shape
        assert picture.pixels_BTCHW.isfinite().all()
    if pictures:
        first, seen, last = pictures
        assert 0 < seen.shown_BTCHW.sum() < last.shown_BTCHW.sum() <= first.shown_BTCHW.sum()
        assert torch.equal(last.pixels_BTCHW[seen.shown_BTCHW], first.pixels_BTCHW[seen.shown_BTCHW])


@torch.no_grad()
def test_the_error_in_the_pictures_of_mae_is_its_loss():
    method, sample = build("mae", {"name": "vit"}, norm_pix=False), windows(4, 32)
    torch.manual_seed(5)
    total = method.loss(sample, 0.5).total
    torch.manual_seed(5)
    torch.testing.assert_close(hidden_error(method.pictures(sample)), total)


@torch.no_grad()
def test_standardised_patches_get_their_own_mean_and_spread_back():
    method, sample = build("mae", {"name": "vit"}, norm_pix=True), windows(4, 32)
    torch.manual_seed(5)
    total = method.loss(sample, 0.5).total
    torch.manual_seed(5)
    window, seen, rebuilt = method.pictures(sample)
    size = method.encoder.patch_size
    patches_BLP, rebuilt_BLP = (patchify(picture.pixels_BTCHW[:, 0], size) for picture in (window, rebuilt))
    error_BLP = (rebuilt_BLP - patches_BLP) / patches_BLP.var(2, keepdim=True).add(1e-6).sqrt()
    hidden_BCHW = ~seen.shown_BTCHW[:, 0]
    torch.testing.assert_close(unpatchify(error_BLP, size, 8)[hidden_BCHW].square().mean(), total)


@pytest.mark.parametrize("groups", ["1,2,3,4", "1,3; 2,4"])
@torch.no_grad()
def test_the_error_in_the_pictures_of_satmae_is_its_loss(groups):
    method = build("satmae", {"name": "vit_grouped", "patch_size": 8, "groups": groups}, norm_pix="off")
    sample = windows(4, 32)
    torch.manual_seed(5)
    total = method.loss(sample, 0.5).total
    torch.manual_seed(5)
    torch.testing.assert_close(hidden_error(method.pictures(sample)), total)  # groups are as large as each other


@torch.no_grad()
def test_pictures_of_satmae_have_the_dates_of_the_windows():
    method = build("satmae", {"name": "vit_temporal", "patch_size": 8}, norm_pix="off", dates=3)
    pixels_BTCHW, valid_BTHW = torch.randn(2, 3, 4, 32, 32), torch.ones(2, 3, 32, 32, dtype=torch.bool)
    time_BT3 = torch.tensor([[[10, 1, 9], [11, 2, 9], [12, 3, 9]]]).expand(2, 3, 3)
    dates = Dates(pixels_BTCHW, valid_BTHW, time_BT3, torch.zeros(2, 2))
    sample = Sample(pixels_BTCHW[:, 0], valid_BTHW[:, 0], torch.full((2,), 10.0), dates)
    torch.manual_seed(5)
    total = method.loss(sample, 0.5).total
    torch.manual_seed(5)
    pictures = method.pictures(sample)
    assert pictures[0].pixels_BTCHW.shape == (2, 3, 4, 32, 32)
    torch.testing.assert_close(hidden_error(pictures), total)
