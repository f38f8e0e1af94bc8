import pytest
import torch
from rsfm.blocks.masking import patchify, unpatchify


@pytest.mark.parametrize(("bands", "patch", "rows", "columns"), [(1, 1, 2, 3), (3, 4, 2, 5), (13, 8, 3, 1)])
def test_patches_put_back_together_are_the_window(bands, patch, rows, columns):
    pixels = torch.randn(2, bands, rows * patch, columns * patch)
    patches = patchify(pixels, patch)
    assert patches.shape == (2, rows * columns, bands * patch**2)
    assert torch.equal(unpatchify(patches, patch, rows), pixels)
