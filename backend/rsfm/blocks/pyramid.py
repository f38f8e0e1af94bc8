"""Maps of strides 4 to 32 and one width from any encoder.

A map that the encoder has at a stride is taken; finer ones come from its last map by transposed convolutions, as in the
simple feature pyramid for plain vision transformers (Li et al., 2022, "Exploring Plain Vision Transformer Backbones for
Object Detection", arXiv:2203.16527); coarser ones by convolutions of step 2. All are joined from coarse to fine (Lin et
al., 2017, "Feature Pyramid Networks", arXiv:1612.03144).

Shape letters: B batch, C bands, H rows, W columns, D features, h and w rows and columns of a map.
"""

import math
from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import FeaturePyramidNetwork

from rsfm.encoder import Encoder, FeatureMap

STRIDES = (4, 8, 16, 32)


class Pyramid(nn.Module):
    """One map for each of STRIDES, of `width` features.

    Attributes:
        multiple: height and width of the pixels are multiples of it.
    """

    def __init__(self, encoder: Encoder, width: int) -> None:
        super().__init__()
        self.multiple = math.lcm(encoder.stride, STRIDES[-1])
        shapes = _shapes(encoder, self.multiple)
        own = {stride: (index, features) for index, (features, stride) in enumerate(shapes)}
        self.sources = [own[stride][0] if stride in own else None for stride in STRIDES]
        last, last_stride = shapes[-1]
        self.changes = nn.ModuleList()
        widths: list[int] = []
        for stride in STRIDES:
            if stride in own:
                self.changes.append(nn.Identity())
                widths.append(own[stride][1])
            elif stride < last_stride or not widths:
                self.changes.append(_finer(last, width, last_stride / stride))
                widths.append(width)
            else:
                self.changes.append(_Coarser(widths[-1], width))
                widths.append(width)
        self.join = FeaturePyramidNetwork(widths, width)

    def forward(self, maps: list[FeatureMap], height: int, width: int) -> list[Tensor]:
        """Return maps_BDhw for STRIDES.

        Args:
            maps: of the encoder.
            height, width: of the pixels.
        """
        levels: list[Tensor] = []
        for stride, source, change in zip(STRIDES, self.sources, self.changes, strict=True):
            if source is not None:
                levels.append(maps[source].features_BDhw)
            elif isinstance(change, _Coarser):
                levels.append(change(levels[-1]))
            else:
                finer_BDhw = change(maps[-1].features_BDhw)
                size = (height // stride, width // stride)
                if finer_BDhw.shape[2:] != size:
                    finer_BDhw = functional.interpolate(finer_BDhw, size, mode="bilinear")
                levels.append(finer_BDhw)
        named = OrderedDict((str(index), level) for index, level in enumerate(levels))
        return list(self.join(named).values())


class _Coarser(nn.Sequential):
    def __init__(self, inputs: int, outputs: int) -> None:
        conv = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)
        super().__init__(conv, nn.GroupNorm(_groups(outputs), outputs), nn.ReLU())


def _finer(inputs: int, outputs: int, times: float) -> nn.Sequential:
    """Double a map as often as that leads to `times` its size; what remains is interpolated."""
    steps = max(0, math.floor(math.log2(times))) if times >= 1 else 0
    layers: list[nn.Module] = []
    for step in range(steps):
        layers += [
            nn.ConvTranspose2d(inputs if step == 0 else outputs, outputs, 2, stride=2),
            nn.GroupNorm(_groups(outputs), outputs),
            nn.GELU(),
        ]
    return nn.Sequential(*(layers or [nn.Conv2d(inputs, outputs, 1)]))


def _groups(width: int) -> int:
    return math.gcd(width, 16)


@torch.no_grad()
def _shapes(encoder: Encoder, side: int) -> list[tuple[int, int]]:
    """Return features and stride of each map of an encoder."""
    training = encoder.training
    maps = encoder.eval().feature_maps(torch.zeros(1, encoder.bands, side, side))
    encoder.train(training)
    return [(each.features_BDhw.shape[1], each.stride) for each in maps]
