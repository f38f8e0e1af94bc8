"""What two dates tell before a map is drawn: do they differ, how is that measured, and what is said about it.

Shape letters: C bands, N pixels.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np

from rsfm.jobs.detect_change import DetectChangeConfig
from rsfm.raster.difference import (
    Dates,
    Gate,
    MedianDifference,
    band_correlations,
    fit_median_difference,
    measure_gate,
)
from rsfm.raster.ir_mad import IrMad, fit_ir_mad
from rsfm.raster.pair_sample import PairSample
from rsfm.raster.threshold import automatic_threshold, top_share

MethodName = Literal["ir_mad", "difference"]

UNRELATED, DOUBTFUL = 0.15, 0.3
"""Correlations below which the dates have nothing in common, or little."""
CERTAIN = {"few", "differences"}
"""Verdicts with which the data may set the threshold."""
NOT_WHAT = (
    "This layer shows where the two images differ, not what changed or whether it matters: crops, season, haze, clouds "
    "and shadow count."
)


class Findings(NamedTuple):
    """What holds for the whole overlap.

    Attributes:
        gate: whether the dates differ beyond one pixel of misalignment.
        correlations: of each band with itself on the other date.
        method: how the magnitude is measured.
        magnitude: measures it.
        threshold: above it a pixel counts as changed; None when nothing is outlined.
        automatic: whether the threshold comes from the histogram.
        minimum, maximum: 2nd and 98th percentile of the magnitude.
    """

    gate: Gate
    correlations: list[float]
    method: MethodName
    magnitude: IrMad | MedianDifference
    threshold: float | None
    automatic: bool
    minimum: float
    maximum: float


def measure(sample: PairSample, config: DetectChangeConfig, check: Callable[[], None]) -> Findings:
    """Decide from a sample of the pixels how to show the difference; `check` lets the user end it."""
    gate = measure_gate(
        Dates(sample.before_CN, sample.after_CN, sample.moved_before_CN, sample.moved_after_CN),
        Dates(
            sample.smooth_before_CN,
            sample.smooth_after_CN,
            sample.smooth_moved_before_CN,
            sample.smooth_moved_after_CN,
        ),
    )
    correlations = band_correlations(sample.before_CN, sample.after_CN)
    method = _method(config, correlations)
    magnitude: IrMad | MedianDifference
    if method == "ir_mad":
        magnitude = fit_ir_mad(sample.smooth_before_CN, sample.smooth_after_CN, check=check)
        found_N = magnitude.magnitude(sample.smooth_before_CN, sample.smooth_after_CN)
    else:
        magnitude = fit_median_difference(sample.before_CN, sample.after_CN)
        found_N = magnitude.magnitude(sample.before_CN, sample.after_CN)
    automatic = config.automatic and gate.verdict in CERTAIN
    low, high = (float(value) for value in np.percentile(found_N, [2, 98]))
    return Findings(
        gate=gate,
        correlations=correlations,
        method=method,
        magnitude=magnitude,
        threshold=_threshold(found_N, config, gate),
        automatic=automatic,
        minimum=low,
        maximum=high if high > low else low + 1,
    )


def sentence(findings: Findings, config: DetectChangeConfig) -> str:
    """Say what was found, in the words of the panel."""
    share = f"{findings.gate.share:.1%}".replace("%", " %")
    if findings.gate.verdict == "none":
        shown = "" if findings.threshold is None else f" The top {config.show:g} % is outlined all the same, as asked."
        return f"No difference beyond one pixel of misalignment: {share} of the area differs more than that.{shown}"
    if findings.gate.verdict == "few":
        strong = f"{findings.gate.strong:.1%}".replace("%", " %")
        shown = "That part is outlined." if findings.automatic else f"The top {config.show:g} % is outlined, as asked."
        return f"Most of the area has not changed, but about {strong} of it differs strongly. {shown} {NOT_WHAT}"
    found = f"About {share} of the area differs more than a one-pixel shift would explain"
    if findings.automatic:
        return f"{found}. {NOT_WHAT} The automatic threshold always finds something."
    weak = ", which is little" if findings.gate.verdict == "weak" else ""
    return f"{found}{weak}. The {config.show:g} % that differ most are outlined. {NOT_WHAT}"


def warnings(findings: Findings, config: DetectChangeConfig) -> list[str]:
    """Say why the map may mean little."""
    best = max(findings.correlations)
    if findings.gate.verdict == "none" or best >= DOUBTFUL:
        return []
    if best >= UNRELATED:
        return [
            f"The two dates have little in common: no band correlates better than {best:.2f}. Season, clouds or haze "
            "may hide the change you look for."
        ]
    used = " Plain differences are shown in place of IR-MAD, which needs some unchanged ground."
    return [
        "Almost everything differs: season, clouds, or not the same place. No band of the two dates correlates better "
        f"than {best:.2f}, so this map means little.{used if config.method == 'automatic' else ''}"
    ]


def _method(config: DetectChangeConfig, correlations: list[float]) -> MethodName:
    if config.method == "automatic":
        return "difference" if max(correlations) < UNRELATED else "ir_mad"
    return "ir_mad" if config.method == "ir_mad" else "difference"


def _threshold(magnitude_N: np.ndarray, config: DetectChangeConfig, gate: Gate) -> float | None:
    """Return the threshold as a number that float32, which the magnitude is stored in, holds exactly."""
    if config.automatic and gate.verdict == "none":
        return None
    automatic = config.automatic and gate.verdict in CERTAIN
    found = automatic_threshold(magnitude_N) if automatic else top_share(magnitude_N, config.show)
    return float(np.float32(found))
