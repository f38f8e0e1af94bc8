"""Show the differences between two rasters that somebody means, from a few places that were marked."""

from typing import Annotated, Any

from pydantic import Field

from rsfm.differences.pair_config import AlignedPairConfig
from rsfm.job import Job
from rsfm.params import (
    AUTOMATIC,
    Device,
    FieldName,
    OptionalModelPath,
    OptionalVectorPath,
    Percent,
    Rectangle,
    SquareMetres,
)
from rsfm.runs import Run


class RefineChangeConfig(AlignedPairConfig):
    """Shows the change you mean, from a few places that you marked on the map as "this" and as "not this".

    Start with three typical places of each, then correct what is wrong. It learns this pair of rasters only; the layer
    orders places by how much they are like those you mean, and the slider says how much of the area is shown.
    """

    clicks: OptionalVectorPath = Field(
        None,
        description="Points where you marked what you mean and what not; each counts with the eight pixels around it.",
        json_schema_extra={"geometry": "point"},
    )
    areas: OptionalVectorPath = Field(None, title="Drawn areas", description="Polygons that you marked, likewise.")
    kind_field: FieldName = Field(
        "kind",
        description="Attribute of points and polygons that names the kind of change; several kinds are told apart.",
        json_schema_extra={"of": "clicks", "advanced": True},
    )
    nothing: str = Field(
        "not this",
        title="Not meant is called",
        description="What the attribute says where nothing of what you mean is.",
        min_length=1,
        json_schema_extra={"advanced": True},
    )
    area: Rectangle = Field(None, description="Map this part only; empty maps the whole overlap.")
    show: Percent = Field(
        5, title="Show the top", ge=0.1, le=50, description="Share of the area that is shown and outlined."
    )
    minimum_area: Annotated[SquareMetres, AUTOMATIC] = Field(
        0, ge=0, le=1e9, description="Changes smaller than this are left out; 0 takes 40 pixels."
    )
    model: OptionalModelPath = Field(
        None,
        description="Pretrained encoder whose features tell kinds of change apart, too; it helps most where pixels are "
        "smaller than 2 m.",
        json_schema_extra={"needs": "encoder"},
    )
    device: Device = Field("auto", description="Device to use; auto takes the GPU with the most free memory.")


class RefineChange(Job):
    name = "refine_change"
    title = "Refine Change by Clicks"
    page = "change"
    rank = 1
    Config = RefineChangeConfig

    @classmethod
    def device(cls, config: RefineChangeConfig) -> str | None:
        return config.device if config.model else None

    def run(self, config: RefineChangeConfig, run: Run) -> dict[str, Any]:
        from rsfm.differences.refining import refine_change

        return refine_change(config, run)
