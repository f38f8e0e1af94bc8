"""Iteratively reweighted multivariate alteration detection of slightly smoothed bands."""

import numpy as np

from rsfm.magnitude import Magnitude, Scene
from rsfm.raster.grid import Window
from rsfm.raster.ir_mad import IrMad as Fitted
from rsfm.raster.ir_mad import fit_ir_mad
from rsfm.raster.pair_pixels import Finish, each_strip
from rsfm.raster.pair_sample import PairSample


class IrMad(Magnitude):
    name = "ir_mad"
    title = "Magnitude of difference (IR-MAD)"

    def __init__(self, fitted: Fitted) -> None:
        self.fitted = fitted

    @classmethod
    def fit(cls, scene: Scene, sample: PairSample) -> tuple["IrMad", np.ndarray]:
        fitted = fit_ir_mad(sample.smooth_before_CN, sample.smooth_after_CN, check=scene.check)
        return cls(fitted), fitted.magnitude(sample.smooth_before_CN, sample.smooth_after_CN)

    def write(self, scene: Scene, window: Window, finish: Finish) -> None:
        each_strip(scene.pair, window, lambda pixels: self.fitted.magnitude_of_smooth(*pixels.around), finish)
