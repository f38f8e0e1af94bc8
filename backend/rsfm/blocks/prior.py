"""The convolutional side of a ViT-Adapter: maps of strides 4 to 32 of the pixels alone, and what mixes neighbours.

Chen et al., 2023, "Vision Transformer Adapter for Dense Predictions", arXiv:2205.08534.

Shape letters: B batch, C bands, H rows, W columns, N tokens of all maps, D width, M width inside, h and w rows and
columns of a map.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from rsfm.blocks.deformable_attention import Size


class SpatialPrior(nn.Module):
    """Convolutions that see outlines before patches blur them."""

    def __init__(self, bands: int, inner: int, width: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            *_step(bands, inner, 2), *_step(inner, inner, 1), *_step(inner, inner, 1), nn.MaxPool2d(3, 2, 1)
        )
        self.conv2 = nn.Sequential(*_step(inner, 2 * inner, 2))
        self.conv3 = nn.Sequential(*_step(2 * inner, 4 * inner, 2))
        self.conv4 = nn.Sequential(*_step(4 * inner, 4 * inner, 2))
        self.fc1, self.fc2, self.fc3, self.fc4 = (nn.Conv2d(times * inner, width, 1) for times in (1, 2, 4, 4))

    def forward(self, pixels_BCHW: Tensor) -> list[Tensor]:
        """Return maps_BDhw of strides 4, 8, 16 and 32."""
        found, inner_Bhw = [], pixels_BCHW
        for convolve, widen in (
            (self.stem, self.fc1), (self.conv2, self.fc2), (self.conv3, self.fc3), (self.conv4, self.fc4)
        ):  # fmt: skip
            inner_Bhw = convolve(inner_Bhw)
            found.append(widen(inner_Bhw))
        return found


class PriorMixer(nn.Module):
    """Two linear layers with a convolution of each channel between, the same for all maps."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, inner)
        self.dwconv = _ByChannel(inner)
        self.fc2 = nn.Linear(inner, width)

    def forward(self, prior_BND: Tensor, sizes: Sequence[Size]) -> Tensor:
        mixed_BND: Tensor = self.fc2(functional.gelu(self.dwconv(self.fc1(prior_BND), sizes)))
        return mixed_BND


class _ByChannel(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(width, width, 3, padding=1, groups=width)

    def forward(self, tokens_BNM: Tensor, sizes: Sequence[Size]) -> Tensor:
        parts = torch.split(tokens_BNM, [rows * columns for rows, columns in sizes], dim=1)
        maps = [self.dwconv(part.mT.reshape(len(part), -1, *size)) for part, size in zip(parts, sizes, strict=True)]
        return torch.cat([each.flatten(2).mT for each in maps], dim=1)


def _step(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
    conv = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
    return [conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
