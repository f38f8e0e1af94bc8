"""Change vector analysis: length of the difference of bands that are standardised by medians and percentiles."""

import numpy as np

from rsfm.magnitude import Magnitude, Scene
from rsfm.raster.difference import RobustDifference, fit_robust_difference
from rsfm.raster.grid import Window
from rsfm.raster.pair_pixels import Finish, each_strip
from rsfm.raster.pair_sample import PairSample


class RobustCva(Magnitude):
    name = "robust_cva"
    title = "Change vectors, robustly standardised"

    def __init__(self, fitted: RobustDifference) -> None:
        self.fitted = fitted

    @classmethod
    def fit(cls, scene: Scene, sample: PairSample) -> tuple["RobustCva", np.ndarray]:
        fitted = fit_robust_difference(sample.before_CN, sample.after_CN)
        return cls(fitted), fitted.magnitude(sample.before_CN, sample.after_CN)

    def write(self, scene: Scene, window: Window, finish: Finish) -> None:
        each_strip(scene.pair, window, lambda pixels: self.fitted.magnitude(*pixels.plain), finish)
