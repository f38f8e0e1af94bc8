"""How large the part of a detector is that is trained on top of an encoder."""

from typing import Literal

from pydantic import Field

from rsfm.params import Channels, Config

NAME: Literal["faster_rcnn"] = "faster_rcnn"


class DetectorConfig(Config):
    """Faster R-CNN on a feature pyramid."""

    name: Literal["faster_rcnn"] = NAME
    width: Channels = Field(64, ge=16, le=1024, multiple_of=16, description="Features of the pyramid.")
    box_features: Channels = Field(256, ge=32, le=4096, description="Features of a proposal.")
    proposals: Channels = Field(300, ge=10, le=10000, description="Proposals of a window that are looked at.")
    samples: Channels = Field(64, ge=8, le=4096, description="Proposals of a window that are learned from.")
