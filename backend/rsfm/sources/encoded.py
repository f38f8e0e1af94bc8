"""Features of an encoder, pretrained or not, brought to the resolution of the pixels."""

from torch import Tensor
from torch.nn import functional

from rsfm.encoder import Encoder
from rsfm.source import Source


class Encoded(Source):
    name = "encoded"

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.width, self.multiple, self.window = encoder.width, encoder.stride, encoder.window
        # bilinear upsampling reaches one more cell
        self.margin = None if encoder.margin is None else encoder.margin + encoder.stride

    def features(self, pixels_BCHW: Tensor) -> Tensor:
        last = self.encoder.feature_maps(pixels_BCHW)[-1].features_BDhw
        return functional.interpolate(last, size=pixels_BCHW.shape[-2:], mode="bilinear", align_corners=False)
