"""What an encoder sees of the area on the screen, in colours that stay comparable while it learns.

The colours are found at the cells of the first look (`colour_axes.py`), with one stretch for all looks, and a map of
another part of the raster has them, too. Some maps are kept, with small pictures, for the report and for comparing.

Shape letters: N cells, D features, K = 3 components, H rows, W columns of cells.
"""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.io import imsave

from rsfm.embedding_layers import paint
from rsfm.encoder import Encoder
from rsfm.inference import TileNetwork, run_tiles, usual_batch
from rsfm.inference_config import TilingConfig
from rsfm.networks import EncoderNetwork
from rsfm.preview import on_screen, write_raster
from rsfm.raster.grid import Window
from rsfm.raster.reader import Raster
from rsfm.raster.statistics import Statistics
from rsfm.runs import Run
from rsfm.training.checkpoint import Position
from rsfm.training.colour_axes import COLOURS, Axes, Values, rotation, whiten

FOLDER = "learning"
KIND = "embedding_picture"
LARGEST, SMALLEST, LARGEST_PICTURE = 1000, 192, 512
"""Longest and shortest side of the area in pixels of the raster; longest side of the small pictures."""
MOST_MAPS = 20
BATCH = 4
SMALL_TILE, TILE_STEP = 96, 32
STRETCH = 2.2
"""Standard deviations of a component from the middle grey to full colour."""


class Spot(NamedTuple):
    """A part of one of the rasters."""

    raster: int
    window: Window


class LearningMap:
    """A look that maps the area on the screen, or the middle of the first raster, and keeps some of its maps."""

    def __init__(
        self, rasters: Sequence[Raster], statistics: Statistics, device: str, run: Run, learned_side: int = 0
    ) -> None:
        """Make a look.

        Args:
            learned_side: of the windows that are learned from, in pixels; 0 is not known.
        """
        self._rasters, self._statistics, self._device, self._run = rasters, statistics, device, run
        self._learned_side = learned_side
        self._batch = 1 if device == "cpu" else BATCH
        self._memory = run.checkpoints / "learning_map.npz"
        self._known: tuple[Spot, Values] | None = _recall(self._memory)
        self._shown = set(maps(run.outputs)[-1:])  # a resumed training's; it may be on the map
        self._side = LARGEST if self._known is None else max(self._known[0].window[2:])

    def __call__(self, encoder: Encoder, position: Position, seconds: float) -> None:
        network = EncoderNetwork(encoder, self._statistics)
        spot = self._spot()
        if self._known is None:
            spot = self._affordable(network, spot, seconds)
        reference = spot if self._known is None else self._known[0]
        features_DHW, valid_HW = self._features(network, reference)
        axes, values_NK = self._colour(features_DHW, valid_HW, reference)
        if spot != reference and self._known is not None:
            features_DHW, valid_HW = self._features(network, spot)
        self._write(axes, features_DHW, valid_HW, spot, network.stride, position.step)
        self._known = (reference, values_NK)
        _remember(self._memory, reference, values_NK)

    def report(self) -> None:
        """Give the last map and the first one to the user, to be compared."""
        kept = maps(self._run.outputs)
        for path in [kept[-1], kept[0]] if len(kept) > 1 else kept:
            self._run.output(KIND, path, title(path))

    def _spot(self) -> Spot:
        """Choose what is on the screen where there is a raster, or else the middle of the first one."""
        look = self._run.look or {}
        for number, raster in enumerate(self._rasters):
            window = on_screen(look, raster.grid)
            if window is None:
                break
            window = window.intersection(raster.grid.window)
            if min(window.height, window.width) > 0:
                return Spot(number, _middle(_grown(window, raster.grid.window), self._side))
        return Spot(0, _middle(self._rasters[0].grid.window, self._side))

    def _affordable(self, network: EncoderNetwork, spot: Spot, seconds: float) -> Spot:
        """Choose the side of all maps by the time of a small one."""
        small = Spot(spot.raster, _middle(spot.window, SMALLEST))
        self._features(network, small)  # the first one pays for what is made once
        began = _clock(self._device)
        self._features(network, small)
        rate = small.window.height * small.window.width / max(_clock(self._device) - began, 1e-6)
        self._side = int(np.clip((rate * seconds) ** 0.5, SMALLEST, LARGEST))
        return Spot(spot.raster, _middle(spot.window, self._side))

    def _features(self, network: EncoderNetwork, spot: Spot) -> tuple[Values, NDArray[np.bool_]]:
        """Return features_DHW and valid_HW of the cells of a spot."""
        rows: list[Values] = []
        valid: list[NDArray[np.bool_]] = []

        def keep(rows_DHW: Values, valid_HW: NDArray[np.bool_]) -> None:
            rows.append(rows_DHW.copy())
            valid.append(valid_HW.copy())

        raster, check = self._rasters[spot.raster], self._run.check
        tiling = tiling_of(network, self._learned_side)
        batch = usual_batch(network, tiling) if network.window else self._batch
        run_tiles(network, raster, spot.window, tiling, self._device, batch, keep, check, lambda _: None)
        return np.concatenate(rows, axis=1), np.concatenate(valid)

    def _colour(self, features_DHW: Values, valid_HW: NDArray[np.bool_], spot: Spot) -> tuple[Axes, Values]:
        """Find the axes at the reference, turned as those before; returns the values of its cells, too."""
        features_ND = features_DHW.reshape(len(features_DHW), -1).T
        valid_N = valid_HW.ravel()
        axes = whiten(features_ND[valid_N] if valid_N.sum() > COLOURS else features_ND)
        values_NK = axes.values(features_ND)
        if self._known is None or self._known[1].shape != values_NK.shape:
            return axes, values_NK
        turn_KK = rotation(values_NK[valid_N], self._known[1][valid_N])
        return axes.turned(turn_KK), values_NK @ turn_KK

    def _write(
        self, axes: Axes, features_DHW: Values, valid_HW: NDArray[np.bool_], spot: Spot, stride: int, step: int
    ) -> None:
        """Write a map and its small picture, and show it in place of the one before."""
        values_NK = axes.values(features_DHW.reshape(len(features_DHW), -1).T)
        values_KHW = np.ascontiguousarray(values_NK.T, np.float32).reshape(COLOURS, *valid_HW.shape)
        colours_KHW = paint(values_KHW, valid_HW, [(-STRETCH, STRETCH)] * COLOURS)
        grid = self._rasters[spot.raster].grid.shrink(stride).crop(spot.window.cells(stride))
        folder = self._run.outputs / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"step_{step:08}.tif"
        write_raster(path, colours_KHW, {"crs": grid.crs, "transform": grid.transform, "nodata": 0})
        _write_picture(path.with_suffix(".png"), colours_KHW)
        thin(self._run.outputs, self._shown)
        self._run.preview(KIND, path, str(self._run.previews / "learning-map"), title(path))


def maps(outputs: Path) -> list[Path]:
    """Return the maps that are kept, first one first."""
    return sorted((outputs / FOLDER).glob("step_*[0-9].tif"))


def title(path: Path) -> str:
    """Name a map after its step."""
    return f"What the encoder sees, step {int(path.stem.removeprefix('step_')):,}"


def thin(outputs: Path, shown: set[Path]) -> None:
    """Keep what is shown, the first and the last map and the others spread evenly between them, at most so many."""
    while len(kept := [path for path in maps(outputs) if path not in shown]) > MOST_MAPS:
        steps = [int(path.stem.removeprefix("step_")) for path in kept]
        gaps = [after - before for before, after in zip(steps, steps[2:], strict=False)]
        crowded = kept[1 + gaps.index(min(gaps))]
        crowded.unlink()
        crowded.with_suffix(".png").unlink(missing_ok=True)


def tiling_of(network: TileNetwork, learned_side: int) -> TilingConfig:
    """Choose small tiles where each cell looks at all others of its tile: their time grows with the square."""
    if network.margin is not None or network.window:
        return TilingConfig()
    side = max(SMALL_TILE, -(-learned_side // TILE_STEP) * TILE_STEP)
    return TilingConfig(tile_size=side, tile_overlap=side // 4)


def _clock(device: str) -> float:
    """Return seconds, once the device has done what it was given."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _middle(window: Window, side: int) -> Window:
    height, width = min(window.height, side), min(window.width, side)
    row, column = window.row + (window.height - height) // 2, window.column + (window.width - width) // 2
    return Window(row, column, height, width)


def _grown(window: Window, whole: Window) -> Window:
    """Widen a window that is too small for a map, within the raster."""
    height, width = max(window.height, min(SMALLEST, whole.height)), max(window.width, min(SMALLEST, whole.width))
    row = min(max(window.row - (height - window.height) // 2, 0), whole.height - height)
    column = min(max(window.column - (width - window.width) // 2, 0), whole.width - width)
    return Window(row, column, height, width)


def _write_picture(path: Path, colours_KHW: NDArray[np.uint8]) -> None:
    step = -(-max(colours_KHW.shape[1:]) // LARGEST_PICTURE)
    partial = path.with_name(f"{path.stem}.partial.png")
    imsave(partial, colours_KHW[:, ::step, ::step].transpose(1, 2, 0), check_contrast=False)
    os.replace(partial, path)


def _remember(path: Path, spot: Spot, values_NK: Values) -> None:
    """Keep the colours of the reference, so that a resumed training goes on in them."""
    partial = path.with_name(f"{path.stem}.partial.npz")
    np.savez(partial, spot=np.array([spot.raster, *spot.window]), values=values_NK.astype(np.float16))
    os.replace(partial, path)


def _recall(path: Path) -> tuple[Spot, Values] | None:
    try:
        with np.load(path, allow_pickle=False) as kept:
            raster, *window = (int(number) for number in kept["spot"])
            return Spot(raster, Window(*window)), kept["values"].astype(np.float32)
    except (OSError, ValueError, KeyError):
        return None
