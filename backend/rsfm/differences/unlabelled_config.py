"""What every comparison of dates without labels is asked: where, and what of the difference is shown."""

from pydantic import Field

from rsfm.params import Config, Percent, Rectangle

UNLABELLED_METHODS = {
    "automatic": "Choose for me",
    "ir_mad": "IR-MAD",
    "difference": "Plain difference, medians removed",
    "rank_average": "Mean rank of these two",
    "robust_cva": "Change vectors, robustly standardised",
}
"""Magnitudes that need no encoder."""


class UnlabelledConfig(Config):
    """What is compared, and what counts as changed."""

    area: Rectangle = Field(None, description="Compare this part only; empty compares the whole overlap.")
    show: Percent = Field(
        5,
        title="Outline the top",
        ge=0.1,
        le=50,
        description="Share of the area outlined when no threshold can be trusted.",
    )
    automatic: bool = Field(
        True,
        title="Automatic threshold",
        description="Set the threshold from the data (1.25 x Otsu) when the two really differ.",
    )
