"""Run a fine-tuned model over a raster, in tiles."""

from typing import Any

from pydantic import Field

from rsfm.inference_config import TilingConfig
from rsfm.job import Job
from rsfm.params import Area, Config, Device, Metres, ModelPath, RasterPath, SquareMetres
from rsfm.runs import Run


class SegmentConfig(Config):
    """Maps the classes of a fine-tuned model over a raster of any size.

    Nodata stays nodata, there are no seams, and the map of an area is the crop of the map of the whole.
    """

    raster: RasterPath = Field(
        description="Raster to map, or a collection to map one by one.", json_schema_extra={"collections": True}
    )
    model: ModelPath = Field(description="Model made by fine-tuning.", json_schema_extra={"needs": "head"})
    area: Area = Field(
        None, description="Map this part only: a rectangle, polygons, or a vector file; empty maps the whole raster."
    )
    confidence: bool = Field(True, description="Make a layer of the confidence, from 0 to 1.")
    probabilities: bool = Field(False, description="Make a layer with the probability of each class as a band.")
    polygons: bool = Field(
        False, description="Make polygons with class, area and, if its layer is made, the mean confidence."
    )
    minimum_area: SquareMetres = Field(
        0, ge=0, le=1e9, description="Polygons smaller than this join the neighbour with the longest common border."
    )
    fill_holes: SquareMetres = Field(
        0,
        ge=0,
        le=1e9,
        description="What a polygon encloses joins it where all of that is smaller than this; nodata stays a hole.",
    )
    smoothing: Metres = Field(
        0,
        ge=0,
        le=1e4,
        description=(
            "Smooths outlines: bends are left out whose triangle has less than the square of this. Neighbours keep one "
            "common edge. 0 follows the pixels; start with one and a half pixels."
        ),
    )
    tiling: TilingConfig = Field(TilingConfig(), description="How the raster is cut.")
    device: Device = Field("auto", description="Device to use; auto takes the GPU with the most free memory.")


class Segment(Job):
    name = "segment"
    title = "Segment a Raster"
    page = "map"
    Config = SegmentConfig

    def run(self, config: SegmentConfig, run: Run) -> dict[str, Any]:
        from rsfm.each_raster import each_raster
        from rsfm.segmentation import segment

        return each_raster(config, run, segment)
