"""Run an encoder over a raster and keep its features as a layer."""

from typing import Any, Literal

from pydantic import Field

from rsfm.inference_config import TilingConfig
from rsfm.job import Job
from rsfm.params import Area, Config, Device, ModelPath, OptionalRasterPath, RasterPath, Seed
from rsfm.runs import Run


class EmbedConfig(Config):
    """Shows what an encoder sees: its features over a raster, as principal components in red, green and blue.

    Places with the same colour look alike to the encoder. The components are fitted on the whole raster, so that an
    area has the colours it has in the whole; they are kept beside the layer, for other rasters and dates to take.
    """

    raster: RasterPath = Field(
        description="Raster to embed, or a collection to embed one by one, in the same colours.",
        json_schema_extra={"collections": True},
    )
    model: ModelPath = Field(
        description="Pretrained encoder or fine-tuned model.", json_schema_extra={"needs": "encoder"}
    )
    area: Area = Field(
        None,
        description="Embed this part only: a rectangle, polygons or a vector file; empty takes the whole raster.",
    )
    grid: Literal["patch", "pixel"] = Field(
        "patch",
        title="One value for",
        description="A patch is the square that the encoder makes one feature of; for each pixel, features are "
        "interpolated between patches, and the layer is as fine as the raster.",
        json_schema_extra={"choices": ["patch", "pixel"], "titles": ["Each patch of the encoder", "Each pixel"]},
    )
    components: int = Field(
        16, ge=0, le=512, description="Principal components to keep; 0 keeps the features themselves."
    )
    storage: Literal["float32", "float16", "int8"] = Field(
        "float32",
        description="16 bits keep three digits in half the space; 8 bits keep 1/230 of the range of each component in "
        "a quarter, with a scale that QGIS applies.",
        json_schema_extra={
            "choices": ["float32", "float16", "int8"],
            "titles": ["Floats of 32 bits", "Floats of 16 bits", "8 bits with a scale"],
            "advanced": True,
        },
    )
    picture: bool = Field(False, description="Make a small picture of the first three components, in 8-bit colours.")
    index: bool = Field(
        False,
        title="Index for search",
        description="Keep all features of each patch, with length 1, for 'Find Similar Places'.",
    )
    second: OptionalRasterPath = Field(
        None,
        title="Second raster",
        description="Another date or place, embedded too: the components are fitted to both, so colours mean the same.",
    )
    same_as: OptionalRasterPath = Field(
        None,
        title="Same colours as",
        description="An embedding made before with this encoder: its components and its stretch are taken, and nothing "
        "is fitted.",
        json_schema_extra={"advanced": True},
    )
    tiling: TilingConfig = Field(TilingConfig(), description="How the raster is cut.")
    device: Device = Field("auto", description="Device to use; auto takes the GPU with the most free memory.")
    seed: Seed = Field(0, description="The same seed gives the same components.")


class Embed(Job):
    name = "embed"
    title = "Embed a Raster"
    page = "explore"
    Config = EmbedConfig

    def run(self, config: EmbedConfig, run: Run) -> dict[str, Any]:
        from rsfm.each_raster import each_raster
        from rsfm.embedding import embed
        from rsfm.shared_components import share_components

        return each_raster(config, run, embed, share_components)
