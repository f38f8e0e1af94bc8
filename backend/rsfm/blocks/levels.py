"""Maps of fixed strides from the maps of any encoder.

A map that an encoder has at a stride is taken as it is. A plain transformer, whose maps have one stride, gives its
early blocks to the fine levels and its late ones to the coarse; any other encoder gives its last map to the levels that
it lacks. Finer maps come by transposed convolutions, as in the simple feature pyramid (Li et al., 2022,
arXiv:2203.16527), coarser ones by convolutions of step 2.

Shape letters: B batch, D features, h and w rows and columns of a map.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional

from rsfm.encoder import FeatureMap, MapShape


class Levels(nn.Module):
    """One map for each of `strides`.

    Attributes:
        widths: features of each.
        as_they_are: every map is one of the encoder's own.
    """

    def __init__(self, shapes: Sequence[MapShape], strides: Sequence[int], width: int) -> None:
        """Make what brings maps of these shapes, finest first, to strides and to `width` features where they lack."""
        super().__init__()
        self.strides = tuple(strides)
        self.sources = choose_maps(shapes, strides)
        chosen = [shapes[source] for source in self.sources]
        self.changes = nn.ModuleList(
            change_stride(shape, width, stride) for shape, stride in zip(chosen, strides, strict=True)
        )
        self.widths = [
            shape.features if shape.stride == stride else width for shape, stride in zip(chosen, strides, strict=True)
        ]
        self.as_they_are = all(shape.stride == stride for shape, stride in zip(chosen, strides, strict=True))

    def forward(self, maps: list[FeatureMap], height: int, width: int) -> list[Tensor]:
        """Return the levels_BDhw of windows of this height and width in pixels, which are multiples of all strides."""
        levels = []
        for stride, source, change in zip(self.strides, self.sources, self.changes, strict=True):
            level_BDhw: Tensor = change(maps[source].features_BDhw)
            size = (height // stride, width // stride)
            if level_BDhw.shape[2:] != size:
                level_BDhw = functional.interpolate(level_BDhw, size, mode="bilinear", align_corners=False)
            levels.append(level_BDhw)
        return levels


def choose_maps(shapes: Sequence[MapShape], strides: Sequence[float]) -> list[int]:
    """Return for each level the index of the map that it is made of."""
    last, steps = len(shapes) - 1, max(len(strides) - 1, 1)
    if len({shape.stride for shape in shapes}) == 1:
        return [round(level * last / steps) for level in range(len(strides))]
    return [max((at for at, shape in enumerate(shapes) if shape.stride == stride), default=last) for stride in strides]


def change_stride(shape: MapShape, width: int, stride: int) -> nn.Module:
    """Make what brings a map to a stride, but for what is left to interpolation where it is no power of two away."""
    if shape.stride == stride:
        return nn.Identity()
    if shape.stride > stride:
        return finer(shape.features, width, shape.stride / stride)
    steps = math.floor(math.log2(stride / shape.stride))
    widths = [shape.features] + [width] * steps
    coarser: list[nn.Module] = [Coarser(*pair) for pair in pairwise(widths)]
    return nn.Sequential(*(coarser or [nn.Conv2d(shape.features, width, 1)]))


class Coarser(nn.Sequential):
    """Halves the size of a map."""

    def __init__(self, inputs: int, outputs: int) -> None:
        conv = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)
        super().__init__(conv, nn.GroupNorm(groups(outputs), outputs), nn.ReLU())


def finer(inputs: int, outputs: int, times: float) -> nn.Sequential:
    """Double a map as often as that leads to `times` its size; what remains is interpolated."""
    steps = max(0, math.floor(math.log2(times))) if times >= 1 else 0
    layers: list[nn.Module] = []
    for step in range(steps):
        layers += [
            nn.ConvTranspose2d(inputs if step == 0 else outputs, outputs, 2, stride=2),
            nn.GroupNorm(groups(outputs), outputs),
            nn.GELU(),
        ]
    return nn.Sequential(*(layers or [nn.Conv2d(inputs, outputs, 1)]))


def groups(width: int) -> int:
    """Return how many groups of features are normalised apart."""
    return math.gcd(width, 16)
