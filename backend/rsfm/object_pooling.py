"""Runs a network over the objects of a raster and pools what it says, from where an earlier start ended.

Shape letters: K values, h and w rows and columns of cells, H rows, W columns.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsfm.errors import Stopped
from rsfm.inference import TileNetwork, run_tiles, usual_batch
from rsfm.inference_config import TilingConfig
from rsfm.mapping import Place, map_rows
from rsfm.raster.background import Work
from rsfm.raster.pooled_object import Objects
from rsfm.raster.pooling import Pooled, Pooling
from rsfm.raster.reader import Raster
from rsfm.raster.remembered import Remembered
from rsfm.runs import Run
from rsfm.unfinished import Unfinished

RECORD = "objects.journal"
RECORD_SECONDS = 5.0
"""At most about this much work is lost with the process."""


Values = Callable[[NDArray[np.float32]], NDArray[np.float32]]


class Results:
    """Arrays of what is known of objects, that a later start takes up; kept whole in one file, with the row reached."""

    def __init__(self, file: Path | None, **arrays: NDArray[Any]) -> None:
        """Begin, or go on from a file; None keeps nothing."""
        self.arrays, self._file, self._written = arrays, file, time.monotonic()
        self.state: dict[str, NDArray[Any]] = {}
        if file is not None and file.exists():
            with np.load(file) as kept:
                for name in arrays:
                    arrays[name][:] = kept[name]
                self.state = {name: kept[name] for name in kept.files if name not in arrays}

    def keep(self, pooling: Pooling, now: bool = False) -> None:
        """Write the file from time to time: a reader sees the old one or the new one."""
        if self._file is None or not (now or time.monotonic() - self._written > RECORD_SECONDS):
            return
        partial = self._file.with_name(f"{self._file.stem}.partial")
        with open(partial, "wb") as file:
            np.savez(file, allow_pickle=False, **self.arrays, **pooling.state())
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, self._file)
        self._written = time.monotonic()


def pool(
    network: TileNetwork,
    values: Values,
    raster: Raster,
    objects: Objects,
    tiling: TilingConfig,
    device: str,
    unfinished: Unfinished,
    results: Results,
    done: Callable[[Pooled], None],
    run: Run,
) -> None:
    """Pool what a network says of the cells of objects.

    The raster is read once from top to bottom, where objects lie; a polygon is cut by no tile.

    Args:
        values: what is pooled of the network's outputs.
        results: that `done` fills in.
        done: takes objects as soon as they are complete, in another thread.
    """
    seen = Remembered(raster)
    pooling = Pooling(objects, network.outputs, network.stride, done)
    if results.state:
        pooling.go_on(**results.state)
    place = Place(seen, objects.area, tiling, device)
    height = objects.area.window.cells(network.stride).height
    taken = pooling.row

    def finish(outputs_Khw: NDArray[np.float32], _: NDArray[np.bool_]) -> tuple[Work, int]:
        nonlocal taken
        rows_Khw = np.array(values(outputs_Khw))
        window = pooling.pixels(taken, rows_Khw.shape[1])
        valid_HW = seen.valid(window)
        seen.forget(window.row)
        taken += rows_Khw.shape[1]

        def add() -> None:
            pooling.add(rows_Khw, valid_HW)
            results.keep(pooling)

        return add, rows_Khw.nbytes + valid_HW.nbytes

    try:
        if pooling.row < height:
            map_rows(network, place, pooling.row, unfinished, finish, run)
    except Stopped:
        results.keep(pooling, now=True)
        raise
    results.keep(pooling, now=True)


def pool_all(network: TileNetwork, raster: Raster, objects: Objects, device: str, run: Run) -> Pooled:
    """Pool what a network says of the cells of objects, and return all objects in their order."""
    seen, parts = Remembered(raster), list[Pooled]()
    pooling = Pooling(objects, network.outputs, network.stride, parts.append)

    def finish(outputs_Khw: NDArray[np.float32], _: NDArray[np.bool_]) -> None:
        window = pooling.pixels(pooling.row, outputs_Khw.shape[1])
        pooling.add(outputs_Khw, seen.valid(window))
        seen.forget(window.row)

    window, inside = objects.area.window, objects.area.inside
    network = network.to(device)
    batch = usual_batch(network, TilingConfig())
    run_tiles(network, seen, window, TilingConfig(), device, batch, finish, run.check, lambda _: None, inside)
    together = [np.concatenate(part) for part in zip(*parts, strict=True)]
    return Pooled(*together).take(np.argsort(together[0]))
