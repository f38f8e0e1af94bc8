"""How a raster is cut for inference."""

from typing import Annotated

from pydantic import Field, model_validator

from rsfm.params import AUTOMATIC, Config, Pixels


class TilingConfig(Config):
    """How a raster is cut for inference."""

    tile_size: Annotated[Pixels, AUTOMATIC] = Field(
        0,
        ge=0,
        le=4096,
        multiple_of=32,
        description="Side of a tile. 0 takes tiles as large as the windows that a transformer learnt with, which share "
        "half or a quarter of their side, and 256 for other models.",
    )
    tile_overlap: Pixels = Field(
        64, ge=0, le=1024, description="Shared by two neighbour tiles of a size that you choose; hides seams."
    )

    @model_validator(mode="after")
    def _overlap_fits(self) -> "TilingConfig":
        if self.tile_size and self.tile_overlap * 2 > self.tile_size:
            raise ValueError(
                f"Tile overlap ({self.tile_overlap} px) must be at most half of the tile size ({self.tile_size} px)."
            )
        return self
