"""The two dates of a job, and how they are made comparable."""

from pydantic import Field

from rsfm.params import Config, OptionalRasterPath, RasterPath


class PairConfig(Config):
    """Two rasters of one place."""

    before: RasterPath = Field(description="Raster of the earlier date; its grid is kept.")
    after: RasterPath = Field(description="Raster of the later date; it is resampled onto the earlier one.")
    bands: str = Field(
        "order",
        description="Which bands are compared: as they follow each other in the files, or those of the same name.",
        json_schema_extra={
            "choices": ["order", "name"],
            "titles": ["In the order of the files", "By name"],
            "advanced": True,
        },
        pattern="^(order|name)$",
    )
    before_mask: OptionalRasterPath = Field(
        None,
        description="Clouds and shadow of the earlier date, as a raster; what it marks is left out.",
        json_schema_extra={"advanced": True},
    )
    after_mask: OptionalRasterPath = Field(
        None,
        description="Clouds and shadow of the later date, as a raster; what it marks is left out.",
        json_schema_extra={"advanced": True},
    )
    mask_values: str = Field(
        "",
        description="Values of the masks that are left out, such as 3, 8, 9; empty takes the clouds of an SCL band, "
        "and all but 0 of others.",
        json_schema_extra={"advanced": True},
    )


class AlignedPairConfig(PairConfig):
    """Two rasters of one place, the later one moved back if that is asked for."""

    correct_shift: bool = Field(
        False,
        title="Correct the shift",
        description="Move the later raster back by the shift that the check finds, if it is certain.",
    )
