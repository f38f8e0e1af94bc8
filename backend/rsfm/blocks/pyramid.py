"""Maps of strides 4 to 32 and one width from any encoder.

A map that the encoder has at a stride is taken; finer ones come from its last map by transposed convolutions, as in the
simple feature pyramid for plain vision transformers (Li et al., 2022, "Exploring Plain Vision Transformer Backbones for
Object Detection", arXiv:2203.16527); coarser ones by convolutions of step 2. All are joined from coarse to fine (Lin et
al., 2017, "Feature Pyramid Networks", arXiv:1612.03144).

Shape letters: B batch, C bands, H rows, W columns, D features, h and w rows and columns of a map.
"""

import math
from collections import OrderedDict

from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import FeaturePyramidNetwork

from rsfm.blocks.levels import Coarser, finer
from rsfm.encoder import Encoder, FeatureMap, map_shapes

STRIDES = (4, 8, 16, 32)


class Pyramid(nn.Module):
    """One map for each of STRIDES, of `width` features.

    Attributes:
        multiple: height and width of the pixels are multiples of it.
    """

    def __init__(self, encoder: Encoder, width: int) -> None:
        super().__init__()
        self.multiple = math.lcm(encoder.stride, STRIDES[-1])
        shapes = map_shapes(encoder, self.multiple)
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
                self.changes.append(finer(last, width, last_stride / stride))
                widths.append(width)
            else:
                self.changes.append(Coarser(widths[-1], width))
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
            elif isinstance(change, Coarser):
                levels.append(change(levels[-1]))
            else:
                finer_BDhw = change(maps[-1].features_BDhw)
                size = (height // stride, width // stride)
                if finer_BDhw.shape[2:] != size:
                    finer_BDhw = functional.interpolate(finer_BDhw, size, mode="bilinear")
                levels.append(finer_BDhw)
        named = OrderedDict((str(index), level) for index, level in enumerate(levels))
        return list(self.join(named).values())
