"""Say how good a map of classes, or a model, is: on labels that it has not seen."""

from typing import Any

from pydantic import Field, model_validator

from rsfm.job import Job
from rsfm.params import (
    Area,
    Config,
    Device,
    FieldName,
    OptionalModelPath,
    OptionalRasterPath,
    OptionalVectorPath,
    RasterPath,
    Seed,
)
from rsfm.runs import Run


class EvaluateConfig(Config):
    """Compares a map of classes, or what a model maps, with the truth, and shows where it is wrong.

    Only labelled pixels count. All scores come from one table of counts; classes are matched by their names. Use labels
    that the model has not learnt from, or the scores flatter: other polygons, or an area of their own.
    """

    raster: RasterPath = Field(description="Map of classes to judge, or the raster that the model is to map.")
    model: OptionalModelPath = Field(
        None,
        description="Fine-tuned model to judge; empty judges the raster itself, as a map of classes.",
        json_schema_extra={"needs": "head"},
    )
    labels: OptionalVectorPath = Field(
        None,
        description="Polygons or points with their true class, in any CRS.",
        json_schema_extra={"geometry": "any"},
    )
    class_field: FieldName = Field("class", description="Attribute that holds the class, text or number.")
    truth: OptionalRasterPath = Field(
        None, title="Raster of the truth", description="In place of polygons: a raster of the true classes."
    )
    area: Area = Field(
        None, description="Judge inside this area only, such as ground that nothing was learnt from; empty judges all."
    )
    class_names: str = Field(
        "",
        max_length=20000,
        description="What the values of the map mean, such as 1=water, 2=forest, where its file does not tell.",
        json_schema_extra={"advanced": True},
    )
    truth_names: str = Field(
        "",
        max_length=20000,
        description="What the values of the raster of the truth mean, written alike.",
        json_schema_extra={"advanced": True},
    )
    device: Device = Field("auto", description="Device to use; auto takes the GPU with the most free memory.")
    seed: Seed = Field(0, description="The same seed gives the same intervals.")

    @model_validator(mode="after")
    def _one_truth(self) -> "EvaluateConfig":
        if (self.labels is None) == (self.truth is None):
            raise ValueError("Choose the true classes under 'Labels' or under 'Raster of the truth': one of both.")
        return self


class Evaluate(Job):
    name = "evaluate"
    title = "Evaluate a Map or Model"
    page = "map"
    rank = 5
    Config = EvaluateConfig

    @classmethod
    def device(cls, config: EvaluateConfig) -> str | None:
        return config.device if config.model else None

    def run(self, config: EvaluateConfig, run: Run) -> dict[str, Any]:
        from rsfm.evaluation.judging import evaluate

        return evaluate(config, run)
