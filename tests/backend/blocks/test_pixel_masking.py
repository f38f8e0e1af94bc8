"""Cells that are hidden inside patches."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rsfm.blocks.pixel_masking import cells_along, draw_hidden
from rsfm.encoders.vit import ViT, ViTConfig
from rsfm.method import Sample
from rsfm.methods.mae import MAE, MAEConfig


@given(
    st.integers(1, 3), st.integers(1, 5), st.integers(1, 5), st.sampled_from([1, 2, 3, 4, 6, 8, 16]),
    st.floats(0.1, 0.95), st.floats(0.05, 1),
)  # fmt: skip
def test_so_many_cells_of_so_many_patches_are_hidden_and_each_as_a_whole(count, rows, columns, size, patches, cells):
    hidden = draw_hidden(count, rows, columns, size, patches, cells, torch.device("cpu"))
    assert hidden.shape == (count, rows * size, columns * size)
    side = cells_along(size)
    cell = size // side
    blocks = hidden.reshape(count, rows * side, cell, columns * side, cell).float().mean((2, 4))
    assert set(blocks.unique().tolist()) <= {0.0, 1.0}
    of_patch = blocks.reshape(count, rows, side, columns, side).sum((2, 4))
    chosen, gone = max(1, int(rows * columns * patches)), max(1, int(side**2 * cells))
    assert ((of_patch == gone).sum((1, 2)) == chosen).all()
    assert ((of_patch == 0).sum((1, 2)) == rows * columns - chosen).all()


@pytest.mark.parametrize(("size", "side"), [(1, 1), (2, 2), (3, 3), (4, 4), (6, 3), (8, 4), (14, 2), (16, 4)])
def test_a_patch_has_four_cells_along_its_side_or_fewer_that_divide_it(size, side):
    assert cells_along(size) == side


def test_every_pixel_is_hidden_as_often():
    torch.manual_seed(0)
    hidden = draw_hidden(4000, 2, 3, 8, 0.5, 0.5, torch.device("cpu"))
    assert torch.allclose(hidden.float().mean(0), torch.full((16, 24), 0.25), atol=0.03)


def method(**config) -> MAE:
    torch.manual_seed(0)
    encoder = ViT(ViTConfig(width=24, depth=1, heads=2, patch_size=8, window=32), 3)
    return MAE(MAEConfig(hiding="cells", mask_ratio=0.75, hidden_cells=0.5, **config), encoder).eval()


def test_hidden_pixels_are_not_seen_and_loss_is_of_valid_hidden_pixels_alone():
    mae = method()
    generator = torch.Generator().manual_seed(1)
    valid = torch.rand(4, 32, 32, generator=generator) > 0.1
    pixels = torch.randn(4, 3, 32, 32, generator=generator) * valid[:, None]
    hidden = mae.hide_cells(pixels)
    rebuilt = mae.rebuild_cells(pixels, hidden)
    other = torch.where(hidden[:, None], torch.randn(4, 3, 32, 32, generator=generator), pixels)
    assert torch.equal(mae.rebuild_cells(other, hidden), rebuilt)
    counted = [
        (rebuilt[window, :, row, column] - pixels[window, :, row, column]).abs().mean()
        for window, row, column in (hidden & valid).nonzero().tolist()
    ]
    view = Sample(pixels, valid, torch.ones(4))[:2]
    from rsfm.blocks.view import View

    torch.testing.assert_close(mae.error_of_cells(View(*view), hidden), torch.stack(counted).mean())


def test_pictures_show_the_traces_that_are_left():
    mae = method()
    pixels = torch.randn(2, 3, 32, 32)
    window, seen, rebuilt = mae.pictures(Sample(pixels, torch.ones(2, 32, 32, dtype=torch.bool), torch.ones(2)))
    shown = seen.shown_BTCHW[:, 0, 0]
    assert torch.equal(window.pixels_BTCHW[:, 0], pixels)
    assert 1 - shown.float().mean() == 0.75 * 0.5
    kept = shown[:, None].expand_as(pixels)
    assert torch.equal(rebuilt.pixels_BTCHW[:, 0][kept], pixels[kept])
    assert not torch.equal(rebuilt.pixels_BTCHW[:, 0][~kept], pixels[~kept])
