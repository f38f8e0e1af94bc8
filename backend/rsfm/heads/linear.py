"""Logistic regression: one linear map from features to classes."""

from typing import Any, Literal

from pydantic import Field
from torch import Tensor, nn

from rsfm.head import HeadConfig, PixelHead


class LinearConfig(HeadConfig):
    """Logistic regression on frozen features: seconds, and the fair judge of features."""

    name: Literal["linear"] = "linear"
    balanced: bool = Field(True, description="Every class weighs the same, however many pixels are labelled.")


class Linear(PixelHead):
    name = "linear"
    Config = LinearConfig

    def __init__(self, config: Any, width: int, classes: int) -> None:
        super().__init__(config, width, classes)
        self.classes = classes
        self.to_logits = nn.Conv2d(width, classes, kernel_size=1)

    def forward(self, features_BDHW: Tensor) -> Tensor:
        logits_BKHW: Tensor = self.to_logits(features_BDHW)
        return logits_BKHW
