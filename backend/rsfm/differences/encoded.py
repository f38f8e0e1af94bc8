"""What an encoder sees of both dates, as principal components that are fitted to the whole overlap.

Shape letters: D features, P components, H rows, W columns, h and w rows and columns of cells.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from rsfm import model_file
from rsfm.components import fit_components
from rsfm.devices import choose_device
from rsfm.errors import UserError
from rsfm.feature_sample import CELLS, sample_features
from rsfm.inference import run_tiles, usual_batch
from rsfm.inference_config import TilingConfig
from rsfm.mapping import Place
from rsfm.networks import EncoderNetwork
from rsfm.raster.area import Area
from rsfm.raster.grid import Window
from rsfm.raster.pair import Pair
from rsfm.raster.reader import Raster
from rsfm.training.finetuning import as_read_by

COMPONENTS, SEED = 12, 0
LEAST_DEVIATION = 1e-6


class EncodedCells:
    """Components of both dates, a cell for `stride` pixels."""

    def __init__(self, dates: list[np.ndarray], cells: Window, stride: int) -> None:
        """Take cells_Phw of each date, at a window of the raster's cells."""
        self._dates, self._cells, self._stride = dates, cells, stride

    def read(self, window: Window, step: int = 1) -> tuple[np.ndarray, np.ndarray]:
        rows = self._places(window.row, window.height, step, self._cells.row, self._cells.height)
        columns = self._places(window.column, window.width, step, self._cells.column, self._cells.width)
        before, after = (_interpolate(cells_Phw, *rows, *columns) for cells_Phw in self._dates)
        return before, after

    def _places(
        self, start: int, size: int, step: int, first: int, count: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return for each pixel the cell before it, in this array, and its part of the way to the next."""
        at = (np.arange(start, start + size, step) + 0.5) / self._stride - 0.5
        before = np.floor(at)
        return before.astype(np.int64) - first, (at - before).astype(np.float32)


class Encoder:
    """An encoder with the components of its features."""

    def __init__(self, model: str, pair: Pair, device: str, check: Callable[[], None]) -> None:
        """Load the model, and fit the components.

        Raises:
            UserError: the model does not fit the rasters.
        """
        loaded = model_file.load(model)
        if loaded.card.encoder is None:
            raise UserError("This model has no encoder. Choose a pretrained one under 'Model'.", "model")
        self._device, self._check = choose_device(device), check
        try:
            self._dates = [as_read_by(loaded, raster) for raster in (pair.before, pair.after)]
        except UserError as error:
            raise UserError(str(error), "model") from error
        encoder, statistics = loaded.encoder(), loaded.card.statistics
        plain = EncoderNetwork(encoder, statistics).to(self._device)
        sample_ND = np.concatenate([self._sample(plain, raster, pair.window) for raster in self._dates])
        basis = fit_components(sample_ND, COMPONENTS)
        deviation_P = np.maximum(basis.project(sample_ND).std(axis=0), LEAST_DEVIATION)
        scaled_PD = (basis.components_KD / deviation_P[:, None]).astype(np.float32)
        self._network = EncoderNetwork(
            encoder, statistics, torch.from_numpy(basis.mean_D), torch.from_numpy(scaled_PD)
        ).to(self._device)
        self.components = len(scaled_PD)

    def look(self, window: Window) -> EncodedCells:
        """Run the encoder around a window; cells beyond the raster repeat those at its edge."""
        stride = self._network.stride
        grid = self._dates[0].grid
        row, column = window.row // stride - 1, window.column // stride - 1
        bottom, right = (window.row + window.height) // stride + 2, (window.column + window.width) // stride + 2
        wide = Window(row * stride, column * stride, (bottom - row) * stride, (right - column) * stride)
        inside = wide.intersection(grid.window)
        cells = inside.cells(stride)
        above, below = cells.row - row, bottom - cells.row - cells.height
        left, beside = cells.column - column, right - cells.column - cells.width
        beyond = (0, 0), (above, below), (left, beside)
        dates = [np.pad(self._run(raster, inside), beyond, "edge") for raster in self._dates]
        return EncodedCells(dates, Window(row, column, bottom - row, right - column), stride)

    def _run(self, raster: Raster, window: Window) -> np.ndarray:
        """Return cells_Phw of the cells that a window touches; 0, which is the mean, where invalid."""
        found: list[np.ndarray] = []

        def take(strip_Phw: NDArray[np.float32], valid_hw: NDArray[np.bool_]) -> None:
            found.append(strip_Phw * valid_hw)

        batch = usual_batch(self._network, TilingConfig())
        run_tiles(self._network, raster, window, TilingConfig(), self._device, batch, take, self._check, lambda _: None)
        return np.concatenate(found, axis=1)

    def _sample(self, network: EncoderNetwork, raster: Raster, window: Window) -> NDArray[np.float32]:
        place = Place(raster, Area(window), TilingConfig(), self._device)
        return sample_features(network, place, SEED, self._check, CELLS // 2)


def _interpolate(
    cells_Phw: np.ndarray,
    row_H: NDArray[np.int64],
    down_H: NDArray[np.float32],
    column_W: NDArray[np.int64],
    right_W: NDArray[np.float32],
) -> np.ndarray:
    above_PHw = cells_Phw[:, row_H]
    by_row_PHw = above_PHw + (cells_Phw[:, row_H + 1] - above_PHw) * down_H[:, None]
    left_PHW = by_row_PHw[:, :, column_W]
    return np.asarray(left_PHW + (by_row_PHw[:, :, column_W + 1] - left_PHW) * right_W)
