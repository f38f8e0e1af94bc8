"""What is judged: a file of classes, or what a model maps; asked at some pixels, or row by row.

Shape letters: N pixels, K classes, V values, H rows, W columns.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rsfm.batch_size import choose_batch
from rsfm.evaluation.class_names import check_count, read_names
from rsfm.inference import TileNetwork, plan_for, run_tiles
from rsfm.inference_config import TilingConfig
from rsfm.model_file import Model
from rsfm.outputs.classes import Classes
from rsfm.raster.area import Area
from rsfm.raster.grid import Window
from rsfm.raster.largest import find_largest
from rsfm.raster.reader import Raster
from rsfm.segmentation import softmax_of_largest
from rsfm.training.candidates import outputs_at

ROWS = 512
"""Rows that are judged at once."""
REGION = 512
"""Single pixels are read in square regions of this many pixels."""

Flags = NDArray[np.bool_]


class Said(NamedTuple):
    """What a map says of pixels: their values, which of them it says nothing of, and how sure it is.

    Attributes:
        confidence: of the value; None where a map has none.
    """

    value: NDArray[np.int64]
    valid: Flags
    confidence: NDArray[np.float32] | None


Take = Callable[[Window, Said], None]
"""Takes what a map says of a window of rows, from top to bottom."""


class Mapped(ABC):
    """A map of classes.

    Attributes:
        raster: whose pixels have a class.
        names: of its values.
    """

    raster: Raster
    names: dict[int, str]

    @abstractmethod
    def values(self, area: Area) -> list[int]:
        """Return the values that may occur, rising."""

    @abstractmethod
    def at(self, rows_N: NDArray[Any], columns_N: NDArray[Any], check: Callable[[], None]) -> Said:
        """Tell the class of some pixels."""

    @abstractmethod
    def by_rows(self, area: Area, take: Take, check: Callable[[], None], progress: Callable[[float], None]) -> None:
        """Tell the classes of an area."""


class FileMap(Mapped):
    """The first band of a raster."""

    def __init__(self, raster: Raster, names: str, field: str) -> None:
        """Take an open raster.

        Raises:
            UserError: it holds no classes.
        """
        self.raster, self.names = raster, read_names(raster, names, field)

    def values(self, area: Area) -> list[int]:
        """Return the values that occur; errors as of a raster that holds too many."""
        return values_of(self.raster, area)

    def at(self, rows_N: NDArray[Any], columns_N: NDArray[Any], check: Callable[[], None]) -> Said:
        value_N, valid_N = np.zeros(len(rows_N), np.int64), np.zeros(len(rows_N), bool)
        region_N = rows_N // REGION * 2**20 + columns_N // REGION
        order = np.argsort(region_N, kind="stable")
        for inside in np.split(order, np.flatnonzero(np.diff(region_N[order])) + 1):
            if len(inside):
                check()
                row, column = int(rows_N[inside].min()), int(columns_N[inside].min())
                height, width = int(rows_N[inside].max()) - row + 1, int(columns_N[inside].max()) - column + 1
                found_CHW, found_HW = self.raster.read_native(Window(row, column, height, width))
                value_N[inside] = found_CHW[0, rows_N[inside] - row, columns_N[inside] - column]
                valid_N[inside] = found_HW[rows_N[inside] - row, columns_N[inside] - column]
        return Said(value_N, valid_N, None)

    def by_rows(self, area: Area, take: Take, check: Callable[[], None], progress: Callable[[float], None]) -> None:
        for window in strips(area.window):
            check()
            value_CHW, valid_HW = self.raster.read_native(window)
            take(window, Said(value_CHW[0].astype(np.int64), valid_HW, None))
            progress((window.row + window.height - area.window.row) / area.window.height)


class ModelMap(Mapped):
    """What a fine-tuned model maps."""

    def __init__(self, raster: Raster, model: Model, network: TileNetwork, device: str) -> None:
        self.raster = raster
        self.names = {name.value: name.name for name in model.card.classes}
        self._network, self._device = network, device
        self._key, self._value_L = model.card.title, np.zeros(256, np.int64)
        self._value_L[1 : len(model.card.classes) + 1] = [name.value for name in model.card.classes]

    def values(self, area: Area) -> list[int]:
        return sorted(self.names)

    def at(self, rows_N: NDArray[Any], columns_N: NDArray[Any], check: Callable[[], None]) -> Said:
        logits_NK = outputs_at(self._network, self.raster, rows_N, columns_N, self._device, check)
        return self._say(logits_NK.T[:, None], np.ones((1, len(rows_N)), bool), flat=True)

    def by_rows(self, area: Area, take: Take, check: Callable[[], None], progress: Callable[[float], None]) -> None:
        window, row = area.window, area.window.row
        plan = plan_for(self._network, TilingConfig())
        batch = choose_batch(self._network, self.raster.bands, plan.side, self._device, self._key)

        def finish(logits_KHW: NDArray[np.float32], valid_HW: Flags) -> None:
            nonlocal row
            take(Window(row, window.column, *valid_HW.shape), self._say(logits_KHW, valid_HW))
            row += len(valid_HW)

        inside = None if area.outlines is None else area.inside
        run_tiles(
            self._network, self.raster, window, TilingConfig(), self._device, batch, finish, check, progress, inside
        )  # fmt: skip

    def _say(self, logits_KHW: NDArray[np.float32], valid_HW: Flags, flat: bool = False) -> Said:
        label_HW, largest_HW = find_largest(logits_KHW, valid_HW, Classes.nodata)
        confidence_HW = softmax_of_largest(logits_KHW, largest_HW, valid_HW)
        value_HW = self._value_L[label_HW]
        return Said(value_HW[0], valid_HW[0], confidence_HW[0]) if flat else Said(value_HW, valid_HW, confidence_HW)


def strips(window: Window) -> Iterator[Window]:
    """Cut a window into bands of rows."""
    for row in range(window.row, window.row + window.height, ROWS):
        yield Window(row, window.column, ROWS, window.width).intersection(window)


def values_of(raster: Raster, area: Area) -> list[int]:
    """Return the values of the first band that occur in an area, rising.

    Raises:
        UserError: there are more than a map of classes can have.
    """
    found = np.empty(0, np.int64)
    for window in strips(area.window):
        value_CHW, valid_HW = raster.read_native(window)
        wanted_HW = valid_HW & area.inside(window)
        found = np.union1d(found, np.unique(value_CHW[0][wanted_HW]).astype(np.int64))
        check_count(found, raster.name, raster.field)
    return [int(value) for value in found]
