"""Say where the next polygons would teach the most."""

from typing import Any

from pydantic import Field

from rsfm.job import Job
from rsfm.labelling.config import LabellingConfig
from rsfm.params import Area
from rsfm.runs import Run


class SuggestLabelsConfig(LabellingConfig):
    """Numbers the places where the next polygons would teach the most.

    They lie where the classes are hard to tell apart, look unlike each other and what is labelled, and are spread over
    the area. Label what you see there, and ask again.
    """

    area: Area = Field(
        None, description="Look in this part only; empty looks everywhere, by samples where it is large."
    )
    count: int = Field(10, ge=1, le=100, description="How many places.")


class SuggestLabels(Job):
    name = "suggest_labels"
    title = "Where to Label Next"
    page = "fine_tune"
    rank = 6
    Config = SuggestLabelsConfig

    @classmethod
    def device(cls, config: SuggestLabelsConfig) -> str | None:
        """Return None: it computes for seconds and waits for nobody."""
        return None

    def run(self, config: SuggestLabelsConfig, run: Run) -> dict[str, Any]:
        from rsfm.labelling.suggesting import suggest_labels

        return suggest_labels(config, run)
