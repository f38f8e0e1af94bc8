"""A model as one graph from stored pixels to what a map is made of: normalisation and nodata are inside.

Shape letters: B batch, C bands, S side of a tile, K classes, D features, h and w rows and columns of a feature map.
"""

import torch
from torch import Tensor, nn

from rsfm.inference import TileNetwork
from rsfm.networks import EncoderNetwork

CLOSE = 1e-6
"""A pixel is nodata within this share of the value: programs that scale a pixel and scale it back lose its last bit."""


class Portable(nn.Module):
    """Takes pixels alone, in the unit that the model reads; NaN, and nodata if there is one, are invalid in any band.

    Attributes:
        outputs: names of what it returns, in order.
    """

    def __init__(self, network: TileNetwork, nodata: float | None) -> None:
        super().__init__()
        self.network, self.nodata = network, nodata
        self.outputs = ("features", "embedding") if isinstance(network, EncoderNetwork) else ("classes",)

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs.

        Args:
            pixels: pixels_BCSS, float32.

        Returns:
            classes: shares_BKSS that sum to 1; the first is that of nodata, 1 or 0, so that the index of the largest
                is the class's value in our maps.
            features: features_BDhw of the encoder's last map.
            embedding: embedding_BD, one vector a tile.
        """
        valid_BSS = ~self._missing(pixels)
        if isinstance(self.network, EncoderNetwork):
            normal_BCSS = self.network.normalisation(pixels, valid_BSS)
            features_BDhw = self.network.encoder.feature_maps(normal_BCSS)[-1].features_BDhw
            return features_BDhw, self.network.encoder.embedding(normal_BCSS)
        return (shares(self.network(pixels, valid_BSS), valid_BSS),)

    def _missing(self, pixels_BCSS: Tensor) -> Tensor:
        missing_BCSS = torch.isnan(pixels_BCSS)
        if self.nodata is not None:
            reach = CLOSE * max(1.0, abs(self.nodata))
            missing_BCSS = missing_BCSS | ((pixels_BCSS - self.nodata).abs() <= reach)
        return missing_BCSS.any(dim=1)


def shares(logits_BKSS: Tensor, valid_BSS: Tensor) -> Tensor:
    """Return the share of nodata and of each class, shares_BKSS."""
    valid_B1SS = valid_BSS.unsqueeze(1).to(logits_BKSS.dtype)
    return torch.cat([1 - valid_B1SS, logits_BKSS.softmax(dim=1) * valid_B1SS], dim=1)
