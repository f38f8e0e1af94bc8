"""What a map of a whole raster will cost here, from maps of two parts of it, made as the job makes them."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import psutil

from rsfm import memory, runs
from rsfm.devices import choose_device
from rsfm.inference_config import TilingConfig
from rsfm.model_file import read_card
from rsfm.plan import Facts
from rsfm.raster.area import read_area
from rsfm.raster.collection_source import open_source
from rsfm.raster.grid import Grid, Window
from rsfm.raster.several import find_sources, is_several
from rsfm.raster.strips import lay_out
from rsfm.raster.tiling import USUAL_SIDE, plan_tiles
from rsfm.runs import Run

FEW, MANY_SECONDS = 2, 3.0
"""Tiles a side of the smaller part; seconds that the larger one is given."""
LOOK_EVERY_SECONDS = 0.05


class _Part(NamedTuple):
    """A part that was mapped: pixels, seconds, processor's seconds, bytes of the run's folder at most, peak memory."""

    window: Window
    seconds: float
    cpu_seconds: float
    disk: int
    memory: int

    @property
    def pixels(self) -> int:
        return self.window.height * self.window.width


def _learnt(config: Any) -> int:
    """Return the side of the windows that a transformer learnt with; 0 for other models, and where there is none."""
    encoder = read_card(config.model).encoder if getattr(config, "model", None) else None
    return int((encoder or {}).get("window", 0))


def measure_mapping(job: str, config: Any, do: Callable[[Any, Run], Any]) -> Facts:
    """Map two parts in the middle of what a config asks for, and throw the maps away.

    Args:
        config: has `raster` and `area`.
        do: the job.

    Raises:
        UserError: the job would refuse the config.
    """
    device = choose_device(config.device)
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        config, whole, pixels = _first_raster(config, Path(folder))
        with open_source(config.raster) as raster:
            grid = raster.grid
        tiling = getattr(config, "tiling", None) or TilingConfig(tile_size=getattr(config, "tile_size", 0))
        window = _learnt(config)
        side = tiling.tile_size or USUAL_SIDE

        def try_part(window: Window) -> _Part:
            return _map_part(job, config, grid, window, do, Path(folder))

        small = _middle(whole, FEW * side, FEW * side)
        try_part(small)  # the first one also loads and warms up
        started, used = time.time() - psutil.Process().create_time(), time.process_time()
        few = try_part(small)
        many = try_part(_larger(whole, few, side))
        each = max(many.seconds - few.seconds, 0) / max(many.pixels - few.pixels, 1)
        if many.pixels == few.pixels:
            each = few.seconds / few.pixels
        grown = max(many.memory - few.memory, 0) / max(many.window.width - few.window.width, 1)
        rows = lay_out(grid, whole, plan_tiles(tiling, 1, 1, None, window))
        tiles = round(len(rows.rows) * len(rows.columns) * pixels / (whole.height * whole.width))
        return Facts(
            unit="tiles",
            amount=max(tiles, 1),
            batch=1,
            seconds=each * pixels / max(tiles, 1),
            cpu_seconds=many.cpu_seconds / many.pixels * pixels / max(tiles, 1),
            start_seconds=started - few.seconds + max(few.seconds - each * few.pixels, 0),
            start_cpu_seconds=used - few.cpu_seconds,
            end_seconds=0.0,
            memory=int(many.memory + grown * (whole.width - many.window.width)),
            device_memory=_device_memory(device),
            disk=int(many.disk / many.pixels * pixels),
            checkpoint=0,
            checkpoint_seconds=0.0,
            device=device,
        )


def _first_raster(config: Any, folder: Path) -> tuple[Any, Window, int]:
    """Return the config for the first raster, what of it is mapped, and the pixels of all rasters."""
    others = 0
    if is_several(config.raster):
        sources = [source for source in find_sources(config.raster, folder) if not source.entry.problem]
        others = sum(source.entry.height * source.entry.width for source in sources[1:])
        config = config.model_copy(update={"raster": sources[0].path})
    with open_source(config.raster) as raster:
        window = read_area(raster.grid, config.area).window
    return config, window, window.height * window.width + others


def _middle(whole: Window, height: int, width: int) -> Window:
    """Return a window in the middle of another, or all of it."""
    height, width = min(height, whole.height), min(width, whole.width)
    row, column = whole.row + (whole.height - height) // 2, whole.column + (whole.width - width) // 2
    return Window(row, column, height, width)


def _larger(whole: Window, few: _Part, side: int) -> Window:
    """Return a part that takes a few seconds, and is as wide as that allows: memory grows with the width."""
    more = max(MANY_SECONDS / max(few.seconds, 0.05), 3) * few.pixels
    width = min(whole.width, int(more / (FEW * side)))
    return _middle(whole, max(int(more / max(width, 1)), FEW * side), max(width, few.window.width))


def _map_part(job: str, config: Any, grid: Grid, window: Window, do: Callable[[Any, Run], Any], folder: Path) -> _Part:
    west, south, east, north = grid.crop(window).bounds
    area = f"{west!r},{south!r},{east!r},{north!r}"
    made = runs.create(folder, job, "plan", {})
    largest, done = 0, threading.Event()

    def watch() -> None:
        nonlocal largest
        while not done.wait(LOOK_EVERY_SECONDS):
            largest = max(largest, _size(made))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    started, used = time.perf_counter(), time.process_time()
    try:
        do(config.model_copy(update={"area": area}), Run(made))
    finally:
        done.set()
        watcher.join()
    ended = time.perf_counter() - started
    return _Part(window, ended, time.process_time() - used, max(largest, _size(made)), memory.peak())


def _size(folder: Path) -> int:
    found = 0
    for file in folder.rglob("*"):
        try:
            found += file.stat().st_size
        except OSError:  # removed in between
            continue
    return found


def _device_memory(device: str) -> int:
    import torch

    return torch.cuda.max_memory_allocated(device) if device.startswith("cuda") else 0
