"""Deep change vector analysis of an encoder's first feature maps, interpolated to pixels.

The published network gives features around 0 that are cut at -1 and 1; those of other encoders are first divided by
what all but one in a hundred stay below.

Shape letters: B batch, D channels of a level, K channels kept, N cells of the sample, h and w rows and columns.
"""

import numpy as np
import torch
from torch import Tensor

from rsfm import model_file
from rsfm.differences.dcva import SHARES, Vectors, fit_vectors, strongest
from rsfm.differences.encoded_dates import EncodedDates, FeatureSample, Maps
from rsfm.differences.levels import levels_of
from rsfm.magnitude import Magnitude, Scene
from rsfm.raster.grid import Window
from rsfm.raster.pair_pixels import Finish
from rsfm.raster.pair_sample import PairSample


class Dcva(Magnitude):
    name = "dcva"
    title = "Deep change vectors (DCVA)"
    reads_encoder = True

    def __init__(self, dates: EncodedDates, limits: list[float], kept: list[np.ndarray], vectors: Vectors) -> None:
        """Take what the features of each level are divided by, and which channels are kept of each."""
        self.dates, self._limits = dates, limits
        self._kept = [torch.from_numpy(kept_K) for kept_K in kept]
        gains, offsets = vectors.scaling()
        self._gains = [torch.tensor(gain_K, dtype=torch.float32) for gain_K in gains]
        self._offsets = [torch.tensor(offset_K, dtype=torch.float32) for offset_K in offsets]

    @classmethod
    def fit(cls, scene: Scene, sample: PairSample) -> tuple["Dcva", np.ndarray]:
        model = model_file.load(str(scene.model))
        encoder = model.encoder()
        levels = levels_of(encoder)[: len(SHARES)]
        dates = EncodedDates(scene, model, encoder, levels)
        found = dates.sample(scene, levels[0].stride)
        limits = [_limit(*level) for level in found.levels]
        clipped = [
            [np.clip(pixels / limit, -1, 1) for pixels in level]
            for level, limit in zip(found.levels, limits, strict=True)
        ]
        quarters_N = _quarters(found, scene.pair.window, levels[0].stride)
        kept = [
            strongest([(after_DN - before_DN)[:, quarters_N == number] for number in range(4)], share)
            for (before_DN, after_DN), share in zip(clipped, SHARES, strict=False)
        ]
        dates_KN = [
            np.concatenate([level[date][kept_K] for level, kept_K in zip(clipped, kept, strict=True)])
            for date in (0, 1)
        ]
        fitted = cls(dates, limits, kept, fit_vectors(*dates_KN))
        return fitted, dates.values(scene, fitted.stride, fitted._length, fitted._prepare)

    def write(self, scene: Scene, window: Window, finish: Finish) -> None:
        self.dates.write(scene, window, self.stride, self._length, finish, self._prepare)

    def _prepare(self, place: int, features_BDhw: Tensor) -> Tensor:
        kept_K = self._kept[place].to(features_BDhw.device)
        return (features_BDhw[:, kept_K] / self._limits[place]).clamp(-1, 1)

    def _length(self, maps: Maps) -> Tensor:
        scaled = []
        for date in (0, 1):
            pixels_BKhw = torch.cat([pair[date] for pair in maps], dim=1)
            gain_K, offset_K = (
                part[date].to(pixels_BKhw.device)[:, None, None] for part in (self._gains, self._offsets)
            )
            scaled.append((pixels_BKhw * gain_K + offset_K).clamp(0, 1))
        return (scaled[0] - scaled[1]).square().sum(dim=1, keepdim=True).sqrt()


def _limit(before_DN: np.ndarray, after_DN: np.ndarray) -> float:
    return max(float(np.percentile(np.abs(np.concatenate([before_DN, after_DN])), 99)), 1e-6)


def _quarters(found: FeatureSample, window: Window, stride: int) -> np.ndarray:
    """Return in which quarter of the overlap each cell of a sample lies, from 0 to 3."""
    lower_N = (found.rows_N + 0.5) * stride >= window.row + window.height / 2
    right_N = (found.columns_N + 0.5) * stride >= window.column + window.width / 2
    return np.asarray(2 * lower_N + right_N)
