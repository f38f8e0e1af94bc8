"""Show when and how often places changed, from rasters of three dates or more."""

from typing import Any, Literal

from pydantic import Field

from rsfm.differences.series_config import SeriesConfig
from rsfm.differences.unlabelled_config import UNLABELLED_METHODS, UnlabelledConfig
from rsfm.job import Job
from rsfm.runs import Run


class ChangeOverTimeConfig(UnlabelledConfig, SeriesConfig):
    """Shows when places first changed, how often and how much, without labels.

    Each date is compared, pixel by pixel, with the last one before it that is not missing there. Two dates that do not
    differ beyond one pixel of misalignment count as unchanged. QGIS's time slider plays the changes of the dates.
    Crops, season, haze, clouds and shadow count as changes.
    """

    against: Literal["previous", "first"] = Field(
        "previous",
        title="Compare with",
        description="What each date is compared with: the date before it, which finds sudden changes, or the first "
        "one, which finds slow ones too. A date that lacks a pixel is passed over there.",
    )
    method: str = Field(
        "automatic",
        description="How difference is measured, the same for all dates; automatic takes IR-MAD, which ignores changes "
        "of gain and colour, unless two dates that follow each other have nothing in common.",
        json_schema_extra={
            "choices": list(UNLABELLED_METHODS),
            "titles": list(UNLABELLED_METHODS.values()),
            "advanced": True,
        },
        pattern=f"^({'|'.join(UNLABELLED_METHODS)})$",
    )


class ChangeOverTime(Job):
    name = "change_over_time"
    title = "Change over Time"
    page = "change"
    rank = 2
    Config = ChangeOverTimeConfig

    def run(self, config: ChangeOverTimeConfig, run: Run) -> dict[str, Any]:
        from rsfm.change_over_time import change_over_time

        return change_over_time(config, run)
