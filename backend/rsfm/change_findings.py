"""What two dates tell before a map is drawn: do they differ, how is that measured, and what is said about it.

Shape letters: N cells of the sample.
"""

from typing import Any, NamedTuple

import numpy as np

from rsfm import magnitudes, registry
from rsfm.differences.findings import UNRELATED, Measured
from rsfm.differences.shares import MagnitudeCounter
from rsfm.differences.unlabelled_config import UnlabelledConfig
from rsfm.jobs.detect_change import DetectChangeConfig
from rsfm.magnitude import Magnitude, Scene
from rsfm.raster.difference import Gate
from rsfm.raster.pair_sample import PairSample
from rsfm.raster.threshold import automatic_threshold, top_share
from rsfm.result_words import area as area_text

CERTAIN = {"few", "differences"}
"""Verdicts with which the data may set the threshold."""
FEWEST_PIXELS = 40
"""Smaller objects are left out unless the user gives a minimum area; measured on real pairs."""
NOT_WHAT = (
    "This layer shows where the two images differ, not what changed or whether it matters: crops, season, haze, clouds "
    "and shadow count."
)


class Layer(NamedTuple):
    """A magnitude with what its layer is shown by.

    Attributes:
        magnitude: measures it.
        threshold: above it a cell counts as changed; None when nothing is outlined.
        automatic: whether the threshold comes from the histogram.
        minimum, maximum: 2nd and 98th percentile.
        cuts: what the shares of ALL_PERCENTS of the sample exceed, so that the layer can be restyled at once.
    """

    magnitude: Magnitude
    threshold: float | None
    automatic: bool
    minimum: float
    maximum: float
    cuts: list[float]

    @property
    def style(self) -> dict[str, Any]:
        """What its look needs beyond the file."""
        return {"minimum": self.minimum, "maximum": self.maximum, "threshold": self.threshold, "cuts": self.cuts}


def choose_method(config: DetectChangeConfig, correlations: list[float]) -> str:
    """Return the name of a magnitude: where the dates have nothing in common IR-MAD would find the wrong ground."""
    if config.method != "automatic":
        return config.method
    return "difference" if max(correlations) < UNRELATED else "ir_mad"


def fit_layer(name: str, scene: Scene, sample: PairSample, config: UnlabelledConfig, gate: Gate) -> Layer:
    """Measure a magnitude and decide how it is shown."""
    member = registry.member(magnitudes, name, Magnitude)  # type: ignore[type-abstract]
    magnitude, found_N = member.fit(scene, sample)
    low, high = (float(value) for value in np.percentile(found_N, [2, 98]))
    counter = MagnitudeCounter()
    counter.add(found_N)
    automatic = config.automatic and gate.verdict in CERTAIN and member.has_histogram
    return Layer(
        magnitude=magnitude,
        threshold=_threshold(found_N, config, gate, automatic),
        automatic=automatic,
        minimum=low,
        maximum=high if high > low else low + 1,
        cuts=counter.cuts(),
    )


def sentence(layer: Layer, gate: Gate, config: DetectChangeConfig) -> str:
    """Say what was found, in the words of the panel."""
    share = f"{gate.share:.1%}".replace("%", " %")
    if gate.verdict == "none":
        shown = "" if layer.threshold is None else f" The top {config.show:g} % is outlined all the same, as asked."
        return f"No difference beyond one pixel of misalignment: {share} of the area differs more than that.{shown}"
    if gate.verdict == "few":
        strong = f"{gate.strong:.1%}".replace("%", " %")
        shown = "That part is outlined." if layer.automatic else f"The top {config.show:g} % is outlined, as asked."
        return f"Most of the area has not changed, but about {strong} of it differs strongly. {shown} {NOT_WHAT}"
    found = f"About {share} of the area differs more than a one-pixel shift would explain"
    if layer.automatic:
        return f"{found}. {NOT_WHAT} The automatic threshold always finds something."
    weak = ", which is little" if gate.verdict == "weak" else ""
    return f"{found}{weak}. The {config.show:g} % that differ most are outlined. {NOT_WHAT}"


def switched(config: DetectChangeConfig, measured: Measured) -> str:
    """Say that another magnitude than usual was chosen, and why; empty where it was not."""
    if config.method != "automatic" or choose_method(config, measured.correlations) == "ir_mad":
        return ""
    return "Plain differences are shown in place of IR-MAD, which needs some unchanged ground."


def why_no_polygons(layer: Layer, config: DetectChangeConfig) -> str:
    """Say why nothing is outlined, and what would outline something."""
    if layer.threshold is None:
        return (
            "Nothing is outlined: the two dates do not differ beyond one pixel of misalignment, so that no threshold "
            f"was set. Switch 'Automatic threshold' off to outline the top {config.show:g} % all the same."
        )
    least = area_text(config.minimum_area) if config.minimum_area > 0 else f"{FEWEST_PIXELS} pixels"
    return (
        f"Nothing is outlined: no place above the threshold of {layer.threshold:.4g} is as large as {least}. Give a "
        "smaller area under 'Minimum area' to outline smaller places."
    )


def _threshold(magnitude_N: np.ndarray, config: UnlabelledConfig, gate: Gate, automatic: bool) -> float | None:
    """Return the threshold as a number that float32, which the magnitude is stored in, holds exactly."""
    if config.automatic and gate.verdict == "none":
        return None
    found = automatic_threshold(magnitude_N) if automatic else top_share(magnitude_N, config.show)
    return float(np.float32(found))
