"""Give whole polygons or tiles a class."""

from typing import Annotated, Any

from pydantic import Field

from rsfm.inference_config import TilingConfig
from rsfm.job import Job
from rsfm.params import AUTOMATIC, Area, Config, Device, ModelPath, OptionalVectorPath, RasterPath
from rsfm.runs import Run


class ClassifyConfig(Config):
    """Gives each polygon of a layer, or each square tile of a raster, one class with its confidence.

    A polygon is read through the pixels whose centre it covers, so that neighbours share none; a smaller one through
    the pixel in its middle. The layer's own attributes and ids are kept. A polygon that cannot be classified has no
    class and an attribute that says why. Models that learnt whole polygons or tiles suit best; a model that learnt
    pixels is asked for each pixel, and its answers are put together.
    """

    raster: RasterPath = Field(description="Raster that shows the polygons or tiles.")
    model: ModelPath = Field(
        description="Model made by teaching classes of polygons, tiles or pixels.",
        json_schema_extra={"needs": "any head"},
    )
    polygons: OptionalVectorPath = Field(
        None, description="Polygons to classify, in any CRS; empty classifies square tiles."
    )
    tile: Annotated[float, AUTOMATIC] = Field(
        0,
        title="Side of tiles",
        ge=0,
        le=1e6,
        description="Side of the tiles where no polygons are given; 0 takes the side the model learnt.",
    )
    unit: str = Field(
        "metres",
        title="Side in",
        description="Unit of the side. A tile is a whole number of pixels, counted from the corner of the raster.",
        json_schema_extra={"choices": ["metres", "pixels"], "titles": ["Metres", "Pixels"]},
        pattern="^(metres|pixels)$",
    )
    area: Area = Field(
        None, description="Classify what touches this part only: a rectangle, polygons, or a vector file."
    )
    probabilities: bool = Field(False, description="Add the probability of every class as an attribute.")
    tile_polygons: bool = Field(False, title="Tiles as polygons", description="Make polygons of the tiles too.")
    vote: str = Field(
        "mean",
        title="Put pixels together by",
        description="For models of pixels alone: by the mean of their probabilities, or by the class that most have.",
        json_schema_extra={
            "choices": ["mean", "majority"],
            "titles": ["Mean probability", "Majority"],
            "advanced": True,
        },
        pattern="^(mean|majority)$",
    )
    tiling: TilingConfig = Field(TilingConfig(), description="How the raster is cut for reading.")
    device: Device = Field("auto", description="Device to use; auto takes the GPU with the most free memory.")


class Classify(Job):
    name = "classify"
    title = "Classify Polygons or Tiles"
    page = "map"
    Config = ClassifyConfig
    rank = 1

    def run(self, config: ClassifyConfig, run: Run) -> dict[str, Any]:
        from rsfm.classification import classify

        return classify(config, run)
