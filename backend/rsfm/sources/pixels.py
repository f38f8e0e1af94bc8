"""Raw pixels: what a band ratio or a threshold could use. The first baseline of every comparison."""

from torch import Tensor

from rsfm.source import Source


class Pixels(Source):
    name = "pixels"

    def __init__(self, bands: int) -> None:
        super().__init__()
        self.width, self.margin, self.multiple = bands, 0, 1

    def features(self, pixels_BCHW: Tensor) -> Tensor:
        return pixels_BCHW
