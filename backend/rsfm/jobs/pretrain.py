"""Pretrain an encoder on the user's own rasters, without labels."""

from typing import Any

from pydantic import Field

from rsfm import encoders, methods, registry
from rsfm.encoder import Encoder
from rsfm.job import Job, Preset
from rsfm.method import Method
from rsfm.params import Config, Device, FieldName, OptionalVectorPath, Pixels, RasterPaths, Rectangle, Seed
from rsfm.raster.sampling_config import SamplingConfig
from rsfm.runs import Run
from rsfm.training.config import TrainingConfig


class PretrainConfig(Config):
    """Teaches an encoder the texture and pattern of your own rasters, without labels.

    Helps where classes look alike in colour and differ in pattern. Where a band ratio solves the task, pixels alone
    do as well; fine-tuning measures that on your own polygons and says so.
    """

    rasters: RasterPaths = Field(description="Rasters or collections to learn from, with the same bands.")
    method: registry.choice_of(methods, Method) = Field(  # type: ignore[valid-type]
        {"name": "moco_v2"}, description="How to learn without labels."
    )
    encoder: registry.choice_of(encoders, Encoder) = Field(  # type: ignore[valid-type]
        {"name": "conv_small"}, description="The network that is pretrained and kept."
    )
    training: TrainingConfig = Field(TrainingConfig(), description="Budget and optimizer.")
    window: Pixels = Field(40, ge=8, le=2048, description="Side of a window read from the raster.")
    sampling: SamplingConfig = Field(SamplingConfig(), description="Which windows are learned from.")
    area: Rectangle = Field(None, description="Learn from this part only; empty takes the whole raster.")
    learning_map: bool = Field(
        True,
        title="Show learning map",
        description="Show from time to time in colours what the encoder sees of the area on the screen, for about 1 % "
        "of the time.",
    )
    labels: OptionalVectorPath = Field(
        None,
        title="Labels to watch by",
        description="Polygons with a class, only to watch the training: scores on held-out blocks are drawn beside the "
        "loss, and nothing is learned from them.",
    )
    class_field: FieldName = Field("class", description="Attribute of these polygons that holds the class.")
    device: Device = Field("auto", description="Device to use; auto takes the GPU with the most free memory.")
    seed: Seed = Field(0, description="The same seed gives the same windows and weights.")


FIRST_CHOICE = "moco_v2"
"""The method that a newcomer begins with: its presets are the first ones."""


class Pretrain(Job):
    name = "pretrain"
    title = "Pretrain an Encoder"
    page = "pretrain"
    is_long = True
    joint = True
    Config = PretrainConfig

    @classmethod
    def presets(cls) -> list[Preset]:
        found = registry.members(methods, Method)  # type: ignore[type-abstract]
        presets = [preset for method in found.values() for preset in method.presets]
        return sorted(presets, key=lambda preset: preset.values["method"]["name"] != FIRST_CHOICE)

    def run(self, config: PretrainConfig, run: Run) -> dict[str, Any]:
        from rsfm.training.pretraining import pretrain

        return pretrain(config, run)
