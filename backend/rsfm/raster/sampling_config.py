"""Which windows of a collection are learned from."""

from typing import Annotated

from pydantic import Field

from rsfm.params import Config, Fraction, Hint, Metres, OptionalRasterPath


class SamplingConfig(Config):
    """Rules for windows; a window that breaks one is replaced by another."""

    max_invalid: Annotated[Fraction, Hint(advanced=True)] = Field(
        0.1, ge=0, le=0.99, description="Share of a window that may be nodata."
    )
    max_cloud: Fraction = Field(
        0.2, ge=0, le=1, description="Share of a window that the collection's masks may hide, as cloud for instance."
    )
    skip_flat: Annotated[bool, Hint(advanced=True)] = Field(
        True, description="Leave out windows that hold a single value nearly everywhere."
    )
    min_gap_days: Annotated[int, Hint(unit="d")] = Field(
        0, ge=0, le=36500, description="Days that two dates of a window lie apart at least."
    )
    other_months: bool = Field(False, description="Prefer dates of other months than the window's own.")
    land_cover: OptionalRasterPath = Field(
        None, description="Raster of classes by which windows are balanced; the class at a window's centre counts."
    )
    shares: str = Field(
        "",
        description="Share of windows for each value of the land cover, such as '50=60, 40=10, 90+95=30'; "
        "empty gives all classes the same.",
    )
    held_out: Fraction = Field(
        0, ge=0, le=0.9, description="Share of the ground that is not learned from but validated on, in blocks."
    )
    held_out_block: Annotated[Metres, Hint(advanced=True)] = Field(
        2000, ge=1, le=100000, description="Side of a block of ground that is held out."
    )
    cache_gb: Annotated[float, Hint(unit="GB", advanced=True)] = Field(
        0,
        ge=0,
        le=100000,
        description="Disk space for decoded rasters, in the run's folder until it ends; 0 takes none. A run that would "
        "have been faster with it says so.",
    )
