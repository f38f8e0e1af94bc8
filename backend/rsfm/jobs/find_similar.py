"""Show where a raster looks like the places that were clicked."""

from typing import Any

from pydantic import Field

from rsfm.job import Job
from rsfm.params import Area, Config, OptionalVectorPath, Points, RasterPath
from rsfm.runs import Run


class FindSimilarConfig(Config):
    """Shows where a raster looks like the places you clicked, in seconds: the encoder is not run again.

    Make the index once, by 'Embed a Raster'. The map is the cosine between each patch and the mean of the places you
    look for, less the mean of those you do not: 1 is the same, 0 is unrelated. It is no probability.
    """

    index: RasterPath = Field(description="Search index that 'Embed a Raster' made.")
    like: Points = Field(
        None,
        description="Places like those you look for: x,y in the CRS of the index, several with semicolons between.",
    )
    unlike: Points = Field(None, description="Places that look like them but are none, written alike.")
    like_layer: OptionalVectorPath = Field(
        None, description="Points like those you look for, as a layer.", json_schema_extra={"geometry": "point"}
    )
    unlike_layer: OptionalVectorPath = Field(
        None,
        description="Points that look like them but are none, as a layer.",
        json_schema_extra={"geometry": "point"},
    )
    area: Area = Field(
        None, description="Search this part only: a rectangle, polygons, or a vector file; empty searches all."
    )


class FindSimilar(Job):
    name = "find_similar"
    title = "Find Similar Places"
    page = "explore"
    rank = 2
    Config = FindSimilarConfig

    def run(self, config: FindSimilarConfig, run: Run) -> dict[str, Any]:
        from rsfm.similarity import find_similar

        return find_similar(config, run)
