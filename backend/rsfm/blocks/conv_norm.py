"""A convolution with batch norm and ReLU, under the names that mmsegmentation gives them.

Shape letters: B batch, D features, H rows, W columns.
"""

from torch import Tensor, nn
from torch.nn import functional


class BatchNorm(nn.BatchNorm2d):
    """Takes its running statistics where a batch holds a single value of each feature, which has no variance."""

    def forward(self, features_BDHW: Tensor) -> Tensor:
        if self.training and features_BDHW.numel() == features_BDHW.shape[1]:
            kept = self.running_mean, self.running_var
            return functional.batch_norm(features_BDHW, *kept, self.weight, self.bias, eps=self.eps)
        return super().forward(features_BDHW)


class ConvNorm(nn.Module):
    """A convolution of odd side without bias, then batch norm and ReLU; the size stays."""

    def __init__(self, inputs: int, outputs: int, side: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, side, padding=side // 2, bias=False)
        self.bn = BatchNorm(outputs)

    def forward(self, features_BDHW: Tensor) -> Tensor:
        return functional.relu(self.bn(self.conv(features_BDHW)))


def resize(features_BDHW: Tensor, like: Tensor) -> Tensor:
    """Bring a map to another's height and width, bilinear between the centres of cells."""
    size = like.shape[-2:]
    if features_BDHW.shape[-2:] == size:
        return features_BDHW
    return functional.interpolate(features_BDHW, size=size, mode="bilinear", align_corners=False)
