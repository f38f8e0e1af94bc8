"""Make a collection: rasters to learn from, with what must be known of each."""

from typing import Annotated, Any

from pydantic import Field

from rsfm.job import Job
from rsfm.params import Config, Hint
from rsfm.runs import Run


class CollectConfig(Config):
    """Looks at your rasters once and writes down what is in them: bands, date, nodata, scaling, pixel size, place.

    The table says what is usable and what is not, and may be corrected. Dates come from metadata and names, never from
    the time a file was written. A raster that cannot be used is named with the reason and does not stop the others.
    """

    rasters: Annotated[
        list[Annotated[str, Field(min_length=1)]], Field(min_length=1, max_length=1000000), Hint(widget="rasters")
    ] = Field(
        description="Rasters, folders, patterns such as /data/*.tif, STAC items, collections or a folder of SSL4EO-S12."
    )
    name: str = Field("collection", min_length=1, max_length=80, description="What the collection is called.")
    output: str = Field(
        "",
        max_length=4000,
        description="File to write, ending in .collection.json; one that is there is extended, and your corrections "
        "stay. Empty writes it to the run.",
    )
    join_sensors: int = Field(
        0,
        ge=0,
        le=366,
        description="Join radar and optical rasters of one place into one raster, if at most so many days lie between "
        "them. 0 joins none.",
    )
    refuse_useless: Annotated[bool, Hint(advanced=True)] = Field(
        True, description="Refuse rasters of which none can be learned from; otherwise the collection says why of each."
    )


class Collect(Job):
    name = "collect"
    title = "Make a Collection"
    page = "imagery"
    Config = CollectConfig

    def run(self, config: CollectConfig, run: Run) -> dict[str, Any]:
        from rsfm.collecting import collect

        return collect(config, run)
