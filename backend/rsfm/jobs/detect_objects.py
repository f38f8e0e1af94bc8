"""Find objects on a raster, in tiles."""

from typing import Annotated, Any

from pydantic import Field

from rsfm.job import Job
from rsfm.params import AUTOMATIC, Area, Config, Device, Fraction, Metres, ModelPath, Pixels, RasterPath
from rsfm.runs import Run


class DetectObjectsConfig(Config):
    """Finds objects on a raster of any size and draws a box around each, with class, score, size and centre.

    An object on the seam of two tiles is found once, there are no boxes on nodata, and an area gives the boxes of the
    whole raster whose centre lies in it.
    """

    raster: RasterPath = Field(description="Raster to search.")
    model: ModelPath = Field(
        description="Model made by 'Teach Objects from Boxes'.", json_schema_extra={"needs": "detector"}
    )
    area: Area = Field(
        None, description="Search this part only: a rectangle, polygons, or a vector file; empty takes the raster."
    )
    least_score: Fraction = Field(0.3, ge=0, le=1, description="Objects with a lower score are left out.")
    largest: Annotated[Metres, AUTOMATIC] = Field(
        0,
        title="Largest object",
        ge=0,
        le=1e5,
        description="Longest side of an object; tiles overlap by more. 0 takes a quarter more than the largest box "
        "that was taught.",
    )
    overlap: Fraction = Field(
        0.5,
        ge=0,
        le=1,
        description="Two boxes of a class that share more than this, of their union, are one object.",
    )
    tile_size: Annotated[Pixels, AUTOMATIC] = Field(
        0, ge=0, le=4096, multiple_of=32, description="Side of a tile; 0 chooses it. It grows with the largest object."
    )
    device: Device = Field("auto", description="Device to use; auto takes the GPU with the most free memory.")


class DetectObjects(Job):
    name = "detect_objects"
    title = "Find Objects"
    page = "map"
    Config = DetectObjectsConfig
    rank = 1

    def run(self, config: DetectObjectsConfig, run: Run) -> dict[str, Any]:
        from rsfm.detection import detect

        return detect(config, run)
