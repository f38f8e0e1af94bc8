"""Draw points at random in each class of a map, for somebody to look up what is there."""

from typing import Any

from pydantic import Field

from rsfm.job import Job
from rsfm.params import Area, Config, RasterPath, Seed
from rsfm.runs import Run


class DrawSampleConfig(Config):
    """Draws the points to look up before a map's areas can be trusted, as a layer with an empty class.

    Points lie at random in each class of the map. Look up the true class of each, in their order and without looking at
    the map: in finer imagery or in the field. Then 'Estimate Areas' tells the area of each class, with its interval.
    """

    raster: RasterPath = Field(title="Map", description="Map of classes.")
    points: int = Field(
        300, ge=4, le=1_000_000, description="Points of all classes together; four times as many halve the intervals."
    )
    fewest: int = Field(
        30, title="Fewest per class", ge=2, le=100_000, description="Points that a rare class gets at least."
    )
    area: Area = Field(None, description="Draw in this part only; empty draws on the whole map.")
    class_names: str = Field(
        "",
        max_length=20000,
        description="What the values of the map mean, such as 1=water, 2=forest, where its file does not tell.",
        json_schema_extra={"advanced": True},
    )
    seed: Seed = Field(0, description="The same seed draws the same points.")


class DrawSample(Job):
    name = "draw_sample"
    title = "Draw a Sample to Label"
    page = "map"
    rank = 6
    Config = DrawSampleConfig

    def run(self, config: DrawSampleConfig, run: Run) -> dict[str, Any]:
        from rsfm.evaluation.sampling import draw_sample

        return draw_sample(config, run)
