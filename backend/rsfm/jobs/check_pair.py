"""Check whether two rasters can be compared."""

from typing import Any

from pydantic import Field

from rsfm.differences.pair_config import PairConfig
from rsfm.job import Job
from rsfm.runs import Run


class CheckPairConfig(PairConfig):
    """Tells whether two rasters can be compared, and how far they miss each other.

    CRS, overlap, pixel size, bands, data types, dates, nodata, clouds, how alike the bands are, by how many pixels the
    later one lies off, and whether the two differ at all beyond that. Nothing is changed unless it is asked for.
    """

    write_moved: bool = Field(
        False,
        title="Write the later raster moved back",
        description="Make a small file (VRT) that shows the later raster where it belongs, if the shift is certain.",
    )
    write_resampled: bool = Field(
        False,
        title="Write the later raster on the grid of the earlier one",
        description="Make a raster of the overlap whose pixels lie on those of the earlier one, interpolated "
        "bilinearly, and moved back if that is asked for too.",
    )


class CheckPair(Job):
    name = "check_pair"
    title = "Check Pair"
    page = "change"
    rank = 1
    Config = CheckPairConfig

    def run(self, config: CheckPairConfig, run: Run) -> dict[str, Any]:
        from rsfm.differences.checking import check_pair

        return check_pair(config, run)
