"""Estimate the area of each class on the ground, with its interval, from a map and points that were looked up."""

from typing import Any

from pydantic import Field

from rsfm.job import Job
from rsfm.params import Area, Config, FieldName, RasterPath, VectorPath
from rsfm.runs import Run


class EstimateAreasConfig(Config):
    """Tells how much of each class there is, corrected for the errors of the map, and how sure that is.

    Counting the pixels of a map takes its errors for truth. Points drawn at random in each class of the map, by 'Draw a
    Sample to Label', say how often it errs and which way; the stratified estimator makes areas and intervals of it, in
    which the truth lies in 95 of 100 cases.
    """

    raster: RasterPath = Field(title="Map", description="Map of classes that the points were drawn on.")
    labels: VectorPath = Field(
        title="Points",
        description="Points with their true class; those without one do not count yet.",
        json_schema_extra={"geometry": "point"},
    )
    class_field: FieldName = Field("class", description="Attribute that holds the true class.")
    area: Area = Field(None, description="The part that the points were drawn in; empty is the whole map.")
    class_names: str = Field(
        "",
        max_length=20000,
        description="What the values of the map mean, such as 1=water, 2=forest, where its file does not tell.",
        json_schema_extra={"advanced": True},
    )


class EstimateAreas(Job):
    name = "estimate_areas"
    title = "Estimate Areas"
    page = "map"
    rank = 7
    Config = EstimateAreasConfig

    def run(self, config: EstimateAreasConfig, run: Run) -> dict[str, Any]:
        from rsfm.evaluation.areas import estimate_areas

        return estimate_areas(config, run)
