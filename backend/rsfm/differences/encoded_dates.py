"""What an encoder sees on two dates, in step: both are read, standardised and encoded tile by tile.

Each date is first given the mean and the deviation, band by band, of what the encoder was trained on, so that the gain
and the offset of a date change nothing.

Shape letters: B batch, C bands of a date, S side of a tile, D features of a date, K features of both dates, N cells of
the sample, h and w rows and columns of cells.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from rsfm.blocks.normalisation import Normalisation
from rsfm.differences.levels import Level
from rsfm.encoder import Encoder
from rsfm.errors import UserError
from rsfm.inference import TileNetwork, run_tiles, usual_batch
from rsfm.magnitude import Scene
from rsfm.model_file import Model
from rsfm.raster.grid import Window
from rsfm.raster.pair_pixels import Finish
from rsfm.raster.statistics import Statistics
from rsfm.raster.two_dates import TwoDates
from rsfm.training.finetuning import as_read_by

BLOCK, BLOCKS = 256, 8
"""Of a large overlap, BLOCKS x BLOCKS windows of this side are looked at to measure what is global."""
SAMPLE_CELLS, SAMPLE_BYTES = 100_000, 2**28
PIXELS = 1_000_000
LEAST = 1e-6

Maps = list[tuple[Tensor, Tensor]]
"""Features of both dates, features_BDhw, of each level asked for."""
Combine = Callable[[Maps], Tensor]
"""Makes outputs_BKhw of the maps, all on the grid of the output."""
Prepare = Callable[[int, Tensor], Tensor]
"""Changes the features of a level, by its place among those asked for, before they are interpolated."""


class FeatureSample(NamedTuple):
    """Features of both dates at some cells, from top to bottom.

    Attributes:
        levels: features before_DN and after_DN of each level.
        rows_N, columns_N: of the cells.
    """

    levels: list[tuple[np.ndarray, np.ndarray]]
    rows_N: np.ndarray
    columns_N: np.ndarray


class _DatesNetwork(TileNetwork):
    """Encodes both dates of a tile and combines what it finds."""

    def __init__(self, encoder: Encoder, model: Model, levels: Sequence[int], stride: int, matching: Tensor) -> None:
        super().__init__()
        self.encoder, self.levels, self.stride = encoder, list(levels), stride
        self.normalisation = Normalisation.from_statistics(model.card.statistics)
        self.register_buffer("matching", matching)
        self.multiple = encoder.stride
        self.margin = None if encoder.margin is None else encoder.margin + encoder.stride
        self.window = encoder.window
        self.combine: Combine = _side_by_side
        self.prepare: Prepare = _as_it_is
        self.outputs = 1

    def forward(self, pixels_BCSS: Tensor, valid_BSS: Tensor) -> Tensor:
        scale_C11, offset_C11 = self.get_buffer("matching")[:, :, None, None]
        matched_BCSS = pixels_BCSS * scale_C11 + offset_C11
        dates_BCSS = torch.cat(matched_BCSS.chunk(2, dim=1))
        maps = self.encoder.feature_maps(self.normalisation(dates_BCSS, valid_BSS.repeat(2, 1, 1)))
        size = [side // self.stride for side in pixels_BCSS.shape[-2:]]
        features = [self.prepare(place, maps[level].features_BDhw) for place, level in enumerate(self.levels)]
        return self.combine([_pair(features_BDhw, size) for features_BDhw in features])


class EncodedDates:
    """Both dates of a scene as an encoder sees them."""

    def __init__(self, scene: Scene, model: Model, encoder: Encoder, levels: Sequence[Level]) -> None:
        """Measure how the dates are matched to the encoder, of which some feature maps are asked for."""
        self._encoder, self._model, self._levels = encoder, model, list(levels)
        self._raster = TwoDates(as_read_by(model, scene.pair.before), as_read_by(model, scene.pair.after))
        self._matching = match(self._raster, model.card.statistics, sample_windows(scene.pair.window))

    def sample(self, scene: Scene, stride: int) -> FeatureSample:
        """Encode windows all over the overlap and keep the features of some valid cells of `stride` pixels."""
        widths = [level.width for level in self._levels]
        channels = 2 * sum(widths)
        windows = sample_windows(scene.pair.window)
        cells = sum(math.prod(window.cells(stride)[2:]) for window in windows)
        most = min(SAMPLE_CELLS, max(SAMPLE_BYTES // (4 * channels), 2000))
        kept = _Kept(max(1, math.ceil(math.sqrt(cells / most))))
        network = self._network(stride, _side_by_side, channels)
        for window in windows:
            kept.begin(window.cells(stride))
            self._run(network, scene, window, kept.take)
        return kept.split(widths)

    def values(self, scene: Scene, stride: int, combine: Combine, prepare: Prepare) -> np.ndarray:
        """Return what `combine` makes at some valid cells of the windows that are sampled, values_N."""
        windows = sample_windows(scene.pair.window)
        cells = sum(math.prod(window.cells(stride)[2:]) for window in windows)
        kept = _Kept(max(1, math.ceil(math.sqrt(cells / PIXELS))))
        network = self._network(stride, combine, 1)
        network.prepare = prepare
        for window in windows:
            kept.begin(window.cells(stride))
            self._run(network, scene, window, kept.take)
        return np.asarray(kept.features_KN()[0])

    def write(
        self,
        scene: Scene,
        window: Window,
        stride: int,
        combine: Combine,
        finish: Finish,
        prepare: Prepare | None = None,
    ) -> None:
        """Hand over what `combine` makes, one value a cell of `stride` pixels, in strips."""

        def one_band(rows_1hw: np.ndarray, valid_hw: np.ndarray) -> None:
            finish(rows_1hw[0].copy(), valid_hw)

        network = self._network(stride, combine, 1)
        network.prepare = prepare or network.prepare
        self._run(network, scene, window, one_band)

    def _network(self, stride: int, combine: Combine, outputs: int) -> _DatesNetwork:
        numbers = [level.number for level in self._levels]
        network = _DatesNetwork(self._encoder, self._model, numbers, stride, self._matching)
        network.combine, network.outputs = combine, outputs
        return network

    def _run(self, network: TileNetwork, scene: Scene, window: Window, finish: Finish) -> None:
        batch = usual_batch(network, scene.tiling)
        run_tiles(network, self._raster, window, scene.tiling, scene.device, batch, finish, scene.check, lambda _: None)


class _Kept:
    """Cells of a lattice over the whole raster, of windows that are read in strips of any height."""

    def __init__(self, step: int) -> None:
        self._step = step
        self._window, self._row = Window(0, 0, 0, 0), 0
        self._features: list[np.ndarray] = []
        self._rows: list[np.ndarray] = []
        self._columns: list[np.ndarray] = []

    def begin(self, cells: Window) -> None:
        self._window, self._row = cells, cells.row

    def take(self, features_KHW: np.ndarray, valid_HW: np.ndarray) -> None:
        rows, columns = (
            slice(-self._row % self._step, None, self._step),
            slice(-self._window.column % self._step, None, self._step),
        )
        part_HW = valid_HW[rows, columns]
        row_N, column_N = np.nonzero(part_HW)
        self._features.append(features_KHW[:, rows, columns][:, part_HW].copy())
        self._rows.append(self._row + rows.start + row_N * self._step)
        self._columns.append(self._window.column + columns.start + column_N * self._step)
        self._row += len(valid_HW)

    def features_KN(self) -> np.ndarray:
        """Return what was kept.

        Raises:
            UserError: nothing is valid where the overlap was looked at.
        """
        features_KN = np.concatenate(self._features, axis=1)
        if features_KN.shape[1] == 0:
            raise UserError(
                "Nothing is valid on both dates where the encoder looked at them. Choose a method that reads no model "
                "under 'Method'.",
                "method",
            )
        return features_KN

    def split(self, widths: Sequence[int]) -> FeatureSample:
        parts = np.split(self.features_KN(), np.cumsum([width for width in widths for _ in range(2)])[:-1])
        levels = list(zip(parts[::2], parts[1::2], strict=True))
        return FeatureSample(levels, np.concatenate(self._rows), np.concatenate(self._columns))


def sample_windows(window: Window) -> list[Window]:
    """Return the window itself, or where it is large, windows spread evenly over it; no tile decides where they lie."""
    if window.height * window.width <= (BLOCK * BLOCKS) ** 2:
        return [window]
    corners = [_spread(first, size) for first, size in ((window.row, window.height), (window.column, window.width))]
    found = [Window(row, column, BLOCK, BLOCK).intersection(window) for row in corners[0] for column in corners[1]]
    return [each for each in found if each.height and each.width]


def match(raster: TwoDates, statistics: Statistics, windows: Sequence[Window]) -> Tensor:
    """Return scale and offset of every band of both dates, matching_2C, that give it the statistics of the encoder."""
    pixels = sum(window.height * window.width for window in windows)
    step = max(1, math.ceil(math.sqrt(pixels / PIXELS)))
    found = []
    for window in windows:
        for row in range(window.row, window.row + window.height, BLOCK):
            strip = Window(row, window.column, BLOCK, window.width).intersection(window)
            pixels_CHW, valid_HW = raster.read(strip)
            rows, columns = slice(-row % step, None, step), slice(-window.column % step, None, step)
            found.append(pixels_CHW[:, rows, columns][:, valid_HW[rows, columns]])
    values_CN = np.concatenate(found, axis=1).astype(np.float64)
    if values_CN.shape[1] == 0:
        values_CN = np.zeros((raster.bands, 1))
    mean_C, deviation_C = values_CN.mean(1), values_CN.std(1)
    wanted_mean_C, wanted_C = np.tile(statistics.mean, 2), np.tile(statistics.std, 2)
    scale_C = np.where(deviation_C > 0, wanted_C / np.where(deviation_C > 0, deviation_C, 1), 0)
    return torch.tensor(np.stack([scale_C, wanted_mean_C - mean_C * scale_C]), dtype=torch.float32)


def standardising(features_DN: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean_D and factor_D that bring channels to deviation 1; a channel that never changes becomes 0."""
    mean_D = features_DN.mean(1, dtype=np.float64)
    deviation_D = features_DN.std(1, dtype=np.float64)
    return mean_D, np.where(deviation_D > LEAST, 1 / np.maximum(deviation_D, LEAST), 0)


def _spread(first: int, size: int) -> list[int]:
    """Choose multiples of BLOCK all over an axis."""
    blocks = range(first // BLOCK, -(-(first + size) // BLOCK))
    wanted = np.linspace(0, len(blocks) - 1, min(BLOCKS, len(blocks))).round().astype(int)
    return [int(blocks[place]) * BLOCK for place in np.unique(wanted)]


def _pair(features_BDhw: Tensor, size: Sequence[int]) -> tuple[Tensor, Tensor]:
    if list(features_BDhw.shape[-2:]) != list(size):
        features_BDhw = functional.interpolate(features_BDhw, size=list(size), mode="bilinear", align_corners=False)
    before_BDhw, after_BDhw = features_BDhw.chunk(2)
    return before_BDhw, after_BDhw


def _as_it_is(place: int, features_BDhw: Tensor) -> Tensor:
    return features_BDhw


def _side_by_side(maps: Maps) -> Tensor:
    return torch.cat([features_BDhw for pair in maps for features_BDhw in pair], dim=1)
