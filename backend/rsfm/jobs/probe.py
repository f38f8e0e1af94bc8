"""Map what is on the screen in seconds, from the polygons that are there."""

from typing import Any

from pydantic import Field

from rsfm.job import Job
from rsfm.labelling.config import LabellingConfig
from rsfm.params import Area
from rsfm.runs import Run


class ProbeConfig(LabellingConfig):
    """Maps at most 2000 x 2000 pixels in seconds, to see what the polygons teach so far. Nothing is judged.

    While 'Map while I label' is on under 'Fine-Tune', the map follows each polygon and the canvas: features
    are computed once for each part of the raster that was seen, and the learner is fitted again at each change.
    """

    area: Area = Field(None, description="Map this part, or as much of its middle; empty maps what is on the screen.")


class Probe(Job):
    name = "probe"
    title = "Quick Map of the View"
    page = "fine_tune"
    rank = 5
    Config = ProbeConfig

    @classmethod
    def device(cls, config: ProbeConfig) -> str | None:
        """Return None: it computes for moments and waits for nobody."""
        return None

    def run(self, config: ProbeConfig, run: Run) -> dict[str, Any]:
        from rsfm.labelling.session import probe

        return probe(config, run)
