"""Brings raw pixels to zero mean and unit variance, on the device they lie on.

Shape letters: B batch, C bands, H rows, W columns.
"""

import torch
from torch import Tensor, nn

from rsfm.blocks.validity import nothing_missing
from rsfm.raster.statistics import Statistics


class Normalisation(nn.Module):
    """Clips and standardises each band by what the network was trained on; invalid pixels become 0."""

    low: Tensor
    high: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, bands: int) -> None:
        super().__init__()
        self.register_buffer("low", torch.full((bands, 1, 1), float("-inf")))
        self.register_buffer("high", torch.full((bands, 1, 1), float("inf")))
        self.register_buffer("mean", torch.zeros(bands, 1, 1))
        self.register_buffer("std", torch.ones(bands, 1, 1))

    @classmethod
    def from_statistics(cls, statistics: Statistics) -> "Normalisation":
        """Make it from measured statistics."""
        normalisation = cls(len(statistics.mean))
        for name in ("low", "high", "mean", "std"):
            values = torch.tensor(getattr(statistics, name), dtype=torch.float32)
            setattr(normalisation, name, values[:, None, None])
        return normalisation

    def forward(self, pixels_BCHW: Tensor, valid_BHW: Tensor) -> Tensor:
        """Return float32 pixels, 0 where invalid.

        Args:
            pixels_BCHW: of any type a raster may have, in the raster's own unit; anything where invalid, also NaN.
        """
        standard_BCHW = torch.maximum(pixels_BCHW.to(torch.float32), self.low)  # `clamp` by bands is not vectorised
        torch.minimum(standard_BCHW, self.high, out=standard_BCHW).sub_(self.mean).div_(self.std)
        if nothing_missing(valid_BHW):
            return standard_BCHW
        return standard_BCHW.masked_fill_(~valid_BHW.unsqueeze(1), 0)
