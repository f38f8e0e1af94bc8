"""The dates of a job that compares more than two."""

from pydantic import Field

from rsfm.params import Config, RasterPaths


class SeriesConfig(Config):
    """Rasters of one place at several dates."""

    rasters: RasterPaths = Field(
        description="Rasters of one place at three dates or more, or a collection of them. Their dates order them; the "
        "grid of the earliest is kept. Clouds that a collection masks are left out.",
    )
