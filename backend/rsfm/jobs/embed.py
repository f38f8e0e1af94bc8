"""Run an encoder over a raster and keep its features as a layer."""

from typing import Any

from pydantic import Field

from rsfm.inference_config import TilingConfig
from rsfm.job import Job
from rsfm.params import Area, Config, Device, ModelPath, RasterPath, Seed
from rsfm.runs import Run


class EmbedConfig(Config):
    """Shows what an encoder sees: its features over a raster, as principal components in red, green and blue.

    Places with the same colour look alike to the encoder.
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
    components: int = Field(
        16, ge=0, le=512, description="Principal components to keep; 0 keeps the features themselves."
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
