"""Length of the difference of an encoder's features, each standardised per channel and date.

It says what the encoder sees, and no more: one that was taught that a place looks the same at all dates sees little.

Shape letters: B batch, D features, N cells of the sample, h and w rows and columns of cells.
"""

import numpy as np
import torch
from torch import Tensor

from rsfm import model_file
from rsfm.differences.encoded_dates import EncodedDates, Maps, standardising
from rsfm.differences.levels import levels_of
from rsfm.magnitude import Magnitude, Scene
from rsfm.raster.grid import Window
from rsfm.raster.pair_pixels import Finish
from rsfm.raster.pair_sample import PairSample


class Deep(Magnitude):
    name = "deep"
    title = "Embedding difference"
    reads_encoder = True

    def __init__(self, dates: EncodedDates, stride: int, standard: list[tuple[np.ndarray, np.ndarray]]) -> None:
        """Take the mean and the factor of each channel, of both dates."""
        self.dates, self.stride = dates, stride
        self._standard = [tuple(torch.tensor(part, dtype=torch.float32) for part in date) for date in standard]

    @classmethod
    def fit(cls, scene: Scene, sample: PairSample) -> tuple["Deep", np.ndarray]:
        model = model_file.load(str(scene.model))
        encoder = model.encoder()
        level = levels_of(encoder)[0 if scene.level == "early" else -1]
        dates = EncodedDates(scene, model, encoder, [level])
        ((before_DN, after_DN),) = dates.sample(scene, level.stride).levels
        standard = [standardising(before_DN), standardising(after_DN)]
        (mean_before, factor_before), (mean_after, factor_after) = standard
        rest_DN = (before_DN - mean_before[:, None]) * factor_before[:, None]
        rest_DN -= (after_DN - mean_after[:, None]) * factor_after[:, None]
        return cls(dates, level.stride, standard), np.sqrt(np.square(rest_DN).sum(0)).astype(np.float32)

    def write(self, scene: Scene, window: Window, finish: Finish) -> None:
        self.dates.write(scene, window, self.stride, self._length, finish)

    def _length(self, maps: Maps) -> Tensor:
        ((before_BDhw, after_BDhw),) = maps
        rest_BDhw = self._scale(before_BDhw, 0) - self._scale(after_BDhw, 1)
        return rest_BDhw.square().sum(dim=1, keepdim=True).sqrt()

    def _scale(self, features_BDhw: Tensor, date: int) -> Tensor:
        mean_D, factor_D = (part.to(features_BDhw.device)[:, None, None] for part in self._standard[date])
        return (features_BDhw - mean_D) * factor_D
