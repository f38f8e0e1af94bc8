"""A small convolutional encoder of output stride 4: the one that learns something in minutes on a CPU.

Shape letters: B batch, C bands, H rows, W columns, D features.
"""

from typing import Any, Literal

from pydantic import Field
from torch import Tensor, nn

from rsfm.encoder import Encoder, EncoderConfig, FeatureMap
from rsfm.params import Channels

STRIDES = (2, 2, 1)


class ConvSmallConfig(EncoderConfig, title="Small convolutional"):
    """Small convolutional network, 0.7 million weights: for minutes on a CPU."""

    name: Literal["conv_small"] = "conv_small"
    width: Channels = Field(192, ge=32, le=1024, multiple_of=16, description="Features per cell.")


class ConvSmall(Encoder):
    name = "conv_small"
    Config = ConvSmallConfig

    def __init__(self, config: Any, bands: int) -> None:
        super().__init__(config, bands)
        self.bands, self.width, self.stride, self.margin = bands, config.width, 4, 20
        self.stem = nn.Sequential(
            nn.Conv2d(bands, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(inplace=True)
        )
        widths = [32, config.width // 4, config.width // 2, config.width]
        self.blocks = nn.ModuleList(_Residual(*shape) for shape in zip(widths, widths[1:], STRIDES, strict=False))

    def feature_maps(self, pixels_BCHW: Tensor) -> list[FeatureMap]:
        features_BDhw = self.stem(pixels_BCHW)
        maps, stride = [], 1
        for block, step in zip(self.blocks, STRIDES, strict=True):
            features_BDhw = block(features_BDhw)
            stride *= step
            maps.append(FeatureMap(features_BDhw, stride))
        return maps

    def embedding(self, pixels_BCHW: Tensor) -> Tensor:
        return self.feature_maps(pixels_BCHW)[-1].features_BDhw.mean(dim=(2, 3))


class _Residual(nn.Module):
    """Two 3 x 3 convolutions with batch norm, and a 1 x 1 one around them where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.around = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        self.last = nn.ReLU(inplace=True)

    def forward(self, inputs_BDHW: Tensor) -> Tensor:
        outputs_BDHW: Tensor = self.last(self.conv(inputs_BDHW) + self.around(inputs_BDHW))
        return outputs_BDHW
