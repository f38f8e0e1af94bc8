"""Length of the difference of the bands once each date's medians are removed; keeps the weights of the bands."""

import numpy as np

from rsfm.magnitude import Magnitude, Scene
from rsfm.raster.difference import MedianDifference, fit_median_difference
from rsfm.raster.grid import Window
from rsfm.raster.pair_pixels import Finish, each_strip
from rsfm.raster.pair_sample import PairSample


class Difference(Magnitude):
    name = "difference"
    title = "Plain difference, medians removed"

    def __init__(self, fitted: MedianDifference) -> None:
        self.fitted = fitted

    @classmethod
    def fit(cls, scene: Scene, sample: PairSample) -> tuple["Difference", np.ndarray]:
        fitted = fit_median_difference(sample.before_CN, sample.after_CN)
        return cls(fitted), fitted.magnitude(sample.before_CN, sample.after_CN)

    def write(self, scene: Scene, window: Window, finish: Finish) -> None:
        each_strip(scene.pair, window, lambda pixels: self.fitted.magnitude(*pixels.plain), finish)
