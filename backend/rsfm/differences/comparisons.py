"""The comparisons of the dates of a series: each is measured over all that the series covers, once, when it is needed.

Shape letters: C bands, N pixels, H rows, W columns.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from rsfm.change_findings import Layer, fit_layer
from rsfm.differences.findings import UNRELATED
from rsfm.differences.gate import gate_of
from rsfm.differences.series import Series
from rsfm.differences.shift import Shift, measure_shift
from rsfm.jobs.change_over_time import ChangeOverTimeConfig
from rsfm.magnitude import Scene
from rsfm.raster.difference import Gate, band_correlations
from rsfm.raster.grid import Window
from rsfm.raster.pair_sample import PairSample, TooFewPixels, take_sample
from rsfm.runs import Run

SHIFTS = 0.4, 0.5
"""Parts of the work between which shifts are looked for."""


class Comparison(NamedTuple):
    """Two dates.

    Attributes:
        likeness: correlation of the band that is most alike.
    """

    scene: Scene
    layer: Layer
    gate: Gate
    likeness: float

    @property
    def threshold(self) -> float | None:
        """Above it a pixel counts as changed; None where the dates do not differ."""
        return self.layer.threshold

    def magnitude(self, strip: Window) -> np.ndarray:
        """Compute the magnitude of a strip, magnitude_HW, float32; anything where a date is missing."""
        parts: list[np.ndarray] = []
        self.layer.magnitude.write(self.scene, strip, lambda magnitude_HW, _valid_HW: parts.append(magnitude_HW))
        return np.concatenate(parts)

    def told(self) -> dict[str, Any]:
        """Say in a few numbers what was found."""
        return {
            "verdict": self.gate.verdict,
            "share": self.gate.share,
            "strong": self.gate.strong,
            "correlation": self.likeness,
            "threshold": self.threshold,
            "automatic": self.layer.automatic,
        }


class Comparisons:
    """The comparisons that were needed so far.

    Attributes:
        method: the magnitude, the same for all.
        found: by the numbers of the dates, the earlier first; None where they have too few pixels in common.
    """

    def __init__(self, series: Series, config: ChangeOverTimeConfig, run: Run) -> None:
        """Measure every date beside the nearest that it can be compared with; what single pixels need follows later.

        "automatic" is IR-MAD, and the plain difference for all dates if two of them have nothing in common: IR-MAD
        needs some unchanged ground, and two magnitudes in one map could not be compared.
        """
        self._series, self._config, self._run = series, config, run
        self.found: dict[tuple[int, int], Comparison | None] = {}
        self.method = "ir_mad" if config.method == "automatic" else config.method
        self._measure_all()
        if config.method == "automatic" and any(found.likeness < UNRELATED for found in self.measured.values()):
            self.method = "difference"
            self.found.clear()
            self._measure_all()

    def shifts(self) -> Iterator[tuple[int, int, Shift]]:
        """Look for a shift between the dates of each comparison that could be measured."""
        for number, (before, after) in enumerate(pairs := list(self.measured)):

            def done(part: float, number: int = number, after: int = after) -> None:
                self._run.check()
                whole = SHIFTS[0] + (SHIFTS[1] - SHIFTS[0]) * (number + part) / len(pairs)
                self._run.progress(whole, f"Looking for a shift of {self._series.day(after)}")

            yield before, after, measure_shift(self._series.pair(before, after), done)

    @property
    def measured(self) -> dict[tuple[int, int], Comparison]:
        """Those that could be measured, in the order of their dates."""
        return {key: found for key, found in sorted(self.found.items()) if found is not None}

    def of(self, before: int, after: int) -> Comparison | None:
        """Return the comparison of two dates; None where they have too few pixels in common."""
        if (before, after) not in self.found:
            self.found[before, after] = self._measure(before, after)
        return self.found[before, after]

    def references(self, after: int) -> Sequence[int]:
        """Return the dates that a date is compared with, those first that stand before others."""
        return range(after) if self._config.against == "first" else range(after - 1, -1, -1)

    def _measure_all(self) -> None:
        dates = len(self._series.rasters)
        for after in range(1, dates):
            self._run.progress(SHIFTS[0] * (after - 1) / (dates - 1), f"Comparing {self._series.day(after)}")
            for before in self.references(after):
                if self.of(before, after) is not None:
                    break

    def _measure(self, before: int, after: int) -> Comparison | None:
        def check(_part: float = 0) -> None:
            self._run.check()

        pair = self._series.pair(before, after)
        scene = Scene(pair, check=check)
        try:
            sample = take_sample(pair, check)
        except TooFewPixels:
            return None
        gate = gate_of(sample)
        return Comparison(scene, fit_layer(self.method, scene, sample, self._config, gate), gate, _likeness(sample))


def _likeness(sample: PairSample) -> float:
    return max(band_correlations(sample.before_CN, sample.after_CN))
