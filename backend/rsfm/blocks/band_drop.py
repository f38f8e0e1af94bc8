"""Views without some of their bands, so that an encoder does not lean on one of them alone.

Shape letters: B batch, C bands, H rows, W columns.
"""

import torch
from pydantic import Field
from torch import Tensor

from rsfm.blocks.ranks import own_rows, ranks
from rsfm.method import MethodConfig
from rsfm.params import Fraction


class ViewsConfig(MethodConfig):
    """Base of the configs of methods that compare views."""

    band_drop: Fraction = Field(
        0, ge=0, le=0.9, description="Chance of each band to be missing from a view; one is always left. 0: all stay."
    )


def drop_bands(pixels_BCHW: Tensor, chance: float) -> Tensor:
    """Set bands of each view to 0, their mean, each with a chance; one at least is left. Nothing is drawn for 0."""
    if not chance:
        return pixels_BCHW
    count, bands = pixels_BCHW.shape[:2]
    drawn_BC = own_rows(torch.rand(count * ranks(), bands, device=pixels_BCHW.device))
    kept_BC = (drawn_BC >= chance) | (drawn_BC == drawn_BC.amax(1, keepdim=True))
    return pixels_BCHW * kept_BC[:, :, None, None]
