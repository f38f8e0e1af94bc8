"""Teach a head from labelled polygons, beside the baselines that it must beat."""

from typing import Any

from pydantic import Field

from rsfm import heads, registry
from rsfm.head import Head
from rsfm.job import Job
from rsfm.params import Config, Device, FieldName, Metres, OptionalModelPath, RasterPath, Seed, VectorPath
from rsfm.runs import Run


class FinetuneConfig(Config):
    """Learns classes from a few labelled polygons, and says what a pretrained encoder is worth for them.

    The same head is fitted on raw pixels, on pixels with local texture, on the untrained encoder and on the
    pretrained one. The best one by cross-validation over polygons is kept. What is not labelled is ignored, in learning
    and in scores.
    """

    raster: RasterPath = Field(description="Raster to learn the classes on.")
    labels: VectorPath = Field(description="Polygons with a class.")
    class_field: FieldName = Field("class", description="Attribute that holds the class, text or number.")
    model: OptionalModelPath = Field(
        None,
        description="Pretrained encoder; empty compares the baselines alone.",
        json_schema_extra={"needs": "encoder"},
    )
    head: registry.choice_of(heads, Head) = Field(  # type: ignore[valid-type]
        {"name": "linear"}, description="What is trained on top."
    )
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
    block: Metres = Field(
        0, title="Side of blocks", ge=0, le=1e6, description="Side of the blocks held out for the scores; 0 chooses it."
    )
    device: Device = Field("auto", description="Device to use; auto takes the GPU with the most free memory.")
    seed: Seed = Field(0, description="The same seed gives the same blocks and the same head.")


class Finetune(Job):
    name = "finetune"
    title = "Fine-Tune on Polygons"
    page = "fine_tune"
    Config = FinetuneConfig

    def run(self, config: FinetuneConfig, run: Run) -> dict[str, Any]:
        from rsfm.training.finetuning import finetune

        return finetune(config, run)
