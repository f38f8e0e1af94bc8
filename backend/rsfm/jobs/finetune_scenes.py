"""Teach a head the classes of whole polygons or tiles, beside the baselines that it must beat."""

from typing import Annotated, Any

from pydantic import Field

from rsfm.heads.linear import LinearConfig
from rsfm.job import Job
from rsfm.params import (
    AUTOMATIC,
    Config,
    Device,
    FieldName,
    Hint,
    Metres,
    OptionalModelPath,
    RasterPath,
    Seed,
    VectorPath,
)
from rsfm.runs import Run


class FinetuneScenesConfig(Config):
    """Learns classes of whole polygons, such as fields or buildings, or of squares around points.

    A polygon is described by the mean of the features of its pixels, and by their spread where that helps. The same
    head is fitted on raw pixels, on pixels with local texture, on the untrained encoder and on the pretrained one. The
    best one by cross-validation, in which polygons that overlap stay together, is kept. With fewer than three polygons
    in a class nothing can be judged.
    """

    raster: RasterPath = Field(description="Raster to learn the classes on.")
    labels: VectorPath = Field(description="Polygons, or points, with a class.", json_schema_extra={"geometry": "any"})
    class_field: FieldName = Field("class", description="Attribute that holds the class, text or number.")
    tile: Metres = Field(
        0,
        title="Side of tiles",
        ge=0,
        le=1e6,
        description="For points: side of the square around each that has its class. Polygons need none.",
    )
    model: OptionalModelPath = Field(
        None,
        description="Pretrained encoder; empty compares the baselines alone.",
        json_schema_extra={"needs": "encoder"},
    )
    head: LinearConfig = Field(LinearConfig(), description="What is trained on top.")
    features: str = Field(
        "best",
        description="Features to keep.",
        json_schema_extra={
            "choices": ["best", "pretrained", "untrained", "texture", "pixels"],
            "titles": [
                "Choose the best for me",
                "Pretrained encoder",
                "Untrained encoder",
                "Pixels and texture",
                "Pixels",
            ],
        },
        pattern="^(best|pretrained|untrained|texture|pixels)$",
    )
    block: Annotated[Metres, AUTOMATIC] = Field(
        0, title="Side of blocks", ge=0, le=1e6, description="Side of the blocks held out for the scores; 0 chooses it."
    )
    folds: Annotated[int, Hint(advanced=True)] = Field(
        1,
        ge=1,
        le=20,
        description="Parts that the blocks are dealt into, each held out once: a steadier score. 1 holds out half of "
        "the blocks, once.",
    )
    device: Device = Field("auto", description="Device to use; auto takes the GPU with the most free memory.")
    seed: Seed = Field(0, description="The same seed gives the same blocks and the same head.")


class FinetuneScenes(Job):
    name = "finetune_scenes"
    title = "Teach Classes of Polygons or Tiles"
    page = "fine_tune"
    Config = FinetuneScenesConfig
    rank = 1

    def run(self, config: FinetuneScenesConfig, run: Run) -> dict[str, Any]:
        from rsfm.training.scenes import finetune_scenes

        return finetune_scenes(config, run)
