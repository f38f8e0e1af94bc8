"""ResNet, equal to torchvision's, for any number of bands.

He et al., 2016, "Deep Residual Learning for Image Recognition", arXiv:1512.03385; in bottlenecks the 3 x 3 convolution
carries the stride, as torchvision has it.

Shape letters: B batch, C bands, H rows, W columns, D features, h and w rows and columns of a feature map.
"""

from typing import Any, Literal, NamedTuple

from pydantic import Field
from timm.models.resnet import BasicBlock, Bottleneck, make_blocks
from torch import Tensor, nn

from rsfm.encoder import Encoder, EncoderConfig, FeatureMap


class ResNetConfig(EncoderConfig):
    """Deep convolutional network, 11 (ResNet-18) or 24 (ResNet-50) million weights: for a GPU."""

    name: Literal["resnet"] = "resnet"
    depth: Literal["18", "50"] = Field("18", description="Number of layers.")


class Layout(NamedTuple):
    """Kind of block, and for each of the four stages the number of blocks and their width before expansion."""

    block: Literal["basic", "bottleneck"]
    layers: tuple[int, int, int, int]
    widths: tuple[int, int, int, int]


LAYOUTS = {
    "18": Layout("basic", (2, 2, 2, 2), (64, 128, 256, 512)),
    "50": Layout("bottleneck", (3, 4, 6, 3), (64, 128, 256, 512)),
}
STRIDES: tuple[int, ...] = (4, 8, 16, 32)
"""Pixels that a cell spans after each stage."""
BLOCKS: dict[str, type[BasicBlock | Bottleneck]] = {"basic": BasicBlock, "bottleneck": Bottleneck}


class ResNet(Encoder):
    name = "resnet"
    Config = ResNetConfig

    def __init__(self, config: Any, bands: int, layout: Layout | None = None) -> None:
        super().__init__(config, bands)
        layout = layout or LAYOUTS[config.depth]
        block = BLOCKS[layout.block]
        self.bands, self.widths, self.strides = bands, [width * block.expansion for width in layout.widths], STRIDES
        self.width, self.stride = self.widths[-1], self.strides[-1]
        self.margin = _margin(layout)
        self.conv1 = nn.Conv2d(bands, layout.widths[0], 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(layout.widths[0])
        self.act1 = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        stages, _ = make_blocks((block,) * 4, layout.widths, layout.layers, inplanes=layout.widths[0])
        self.layer1, self.layer2, self.layer3, self.layer4 = (stage for _, stage in stages)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def feature_maps(self, pixels_BCHW: Tensor) -> list[FeatureMap]:
        features_BDhw = self.maxpool(self.act1(self.bn1(self.conv1(pixels_BCHW))))
        maps = []
        for stage, stride in zip(self._stages(), self.strides, strict=False):
            features_BDhw = stage(features_BDhw)
            maps.append(FeatureMap(features_BDhw, stride))
        return maps

    def embedding(self, pixels_BCHW: Tensor) -> Tensor:
        return self.feature_maps(pixels_BCHW)[-1].features_BDhw.mean(dim=(2, 3))

    def keep_fine(self, stride: int, stages: int) -> None:
        """Do so as BIT does: convolutions look at their neighbours, none is dilated."""
        for stage, usual in zip(self._stages(), STRIDES, strict=True):
            for module in stage[0].modules() if usual > stride else ():
                if isinstance(module, nn.Conv2d):
                    module.stride = (1, 1)
        self.strides = tuple(min(usual, stride) for usual in STRIDES[:stages])
        self.width, self.stride = self.widths[stages - 1], self.strides[-1]

    def _stages(self) -> tuple[Any, ...]:
        return self.layer1, self.layer2, self.layer3, self.layer4


def _margin(layout: Layout) -> int:
    """Sum up the reach of every 3 x 3 and of the stem, in pixels, and round it up to whole cells of 32."""
    reach, stride = 3 + 2, 4  # 7 x 7 at 1 px, pooling at 2 px
    for stage, blocks in enumerate(layout.layers):
        convolutions = blocks * (2 if layout.block == "basic" else 1)
        if stage:  # the first convolution of a stage still reads the finer cells
            reach, stride, convolutions = reach + stride, stride * 2, convolutions - 1
        reach += convolutions * stride
    return -(-reach // 32) * 32
