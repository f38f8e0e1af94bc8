"""Sort the places of a raster into groups that look alike, without labels."""

from typing import Any, Literal

from pydantic import Field

from rsfm.inference_config import TilingConfig
from rsfm.job import Job
from rsfm.params import (
    Area,
    Config,
    Device,
    OptionalModelPath,
    OptionalRasterPath,
    RasterPath,
    Seed,
    SquareMetres,
)
from rsfm.runs import Run


class ClusterConfig(Config):
    """Sorts a raster into groups that look alike to an encoder, without any labels.

    What a group means, you say afterwards: the groups come as a map of classes with their areas, the most frequent
    first. They are found on a sample of the whole raster, so that the map of an area is the crop of that of the whole.
    """

    raster: RasterPath = Field(description="Raster, or an embedding layer made before.")
    model: OptionalModelPath = Field(
        None,
        description="Encoder whose features are grouped; empty groups the bands of the raster as they are, as is right "
        "for an embedding layer.",
        json_schema_extra={"needs": "encoder"},
    )
    clusters: int = Field(8, ge=2, le=64, description="Number of groups.")
    area: Area = Field(
        None, description="Map this part only: a rectangle, polygons, or a vector file; empty maps the whole raster."
    )
    grid: Literal["patch", "pixel"] = Field(
        "pixel",
        title="One value for",
        description="A patch is the square that the encoder makes one feature of; for each pixel, features are "
        "interpolated between patches.",
        json_schema_extra={"choices": ["patch", "pixel"], "titles": ["Each patch of the encoder", "Each pixel"]},
    )
    polygons: bool = Field(False, description="Make polygons with group and area.")
    minimum_area: SquareMetres = Field(0, ge=0, le=1e9, description="Polygons smaller than this join their neighbours.")
    same_as: OptionalRasterPath = Field(
        None,
        title="Same groups as",
        description="A map of groups made before with this encoder: its groups are taken, and none are looked for.",
        json_schema_extra={"advanced": True},
    )
    tiling: TilingConfig = Field(TilingConfig(), description="How the raster is cut.")
    device: Device = Field("auto", description="Device to use; auto takes the GPU with the most free memory.")
    seed: Seed = Field(0, description="The same seed gives the same groups.")


class Cluster(Job):
    name = "cluster"
    title = "Cluster a Raster"
    page = "explore"
    rank = 1
    Config = ClusterConfig

    def run(self, config: ClusterConfig, run: Run) -> dict[str, Any]:
        from rsfm.clustering import cluster

        return cluster(config, run)
