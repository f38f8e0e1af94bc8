"""Mean of the ranks that IR-MAD and the plain difference give: seldom the best, never far off.

It ranks places and is spread evenly by construction, so that no histogram tells where to cut it.
"""

import numpy as np

from rsfm.magnitude import Magnitude, Scene
from rsfm.raster.difference import MedianDifference, fit_median_difference
from rsfm.raster.grid import Window
from rsfm.raster.ir_mad import IrMad, fit_ir_mad
from rsfm.raster.pair_pixels import Finish, PairPixels, each_strip
from rsfm.raster.pair_sample import PairSample
from rsfm.raster.rank_table import RankTable


class RankAverage(Magnitude):
    name = "rank_average"
    title = "Mean rank of IR-MAD and plain difference"
    has_histogram = False

    def __init__(self, ir_mad: IrMad, difference: MedianDifference, tables: tuple[RankTable, RankTable]) -> None:
        self.ir_mad, self.difference, self.tables = ir_mad, difference, tables

    @classmethod
    def fit(cls, scene: Scene, sample: PairSample) -> tuple["RankAverage", np.ndarray]:
        plain, smoothed = (sample.before_CN, sample.after_CN), (sample.smooth_before_CN, sample.smooth_after_CN)
        ir_mad, difference = fit_ir_mad(*smoothed, check=scene.check), fit_median_difference(*plain)
        found = ir_mad.magnitude(*smoothed), difference.magnitude(*plain)
        fitted = cls(ir_mad, difference, (RankTable.of(found[0]), RankTable.of(found[1])))
        return fitted, fitted.of(*found)

    def of(self, *found: np.ndarray) -> np.ndarray:
        """Average the ranks, from 0 to 1, of the magnitudes that IR-MAD and the plain difference give."""
        ranks = [table.rank(values) for table, values in zip(self.tables, found, strict=True)]
        return np.asarray((ranks[0] + ranks[1]) / np.float32(2))

    def write(self, scene: Scene, window: Window, finish: Finish) -> None:
        def compute(pixels: PairPixels) -> np.ndarray:
            return self.of(self.ir_mad.magnitude_of_smooth(*pixels.around), self.difference.magnitude(*pixels.plain))

        each_strip(scene.pair, window, compute, finish)
