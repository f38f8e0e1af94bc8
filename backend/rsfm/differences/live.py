"""Answers clicks while somebody makes them: learns anew at each and maps what is on the screen.

`rsfm refits` is a process that stays: it keeps the rasters open, what it read of the marks, and what lies on the
screen, so that a click costs a regression and a weighted sum. A line of JSON asks, a line answers. The map is the crop
of what 'Refine Change by Clicks' gives for the whole raster with the same marks.
"""

import json
import math
import os
import sys
import time
import traceback
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from rsfm.differences.findings import alignment
from rsfm.differences.fitting import learn, likeness
from rsfm.differences.marks import read_marks
from rsfm.differences.planes import Planes, Scene, open_scene
from rsfm.differences.refining import classes, load_encoder
from rsfm.differences.shares import ShareCounter
from rsfm.errors import UserError
from rsfm.jobs.refine_change import RefineChange, RefineChangeConfig
from rsfm.preview import on_screen, write_raster
from rsfm.raster.grid import Window
from rsfm.worker import read_config

LARGEST = 2000
"""Longest side of what is mapped at a click, in pixels of the map."""
COARSEST = 4
"""Every so many rows and columns at most are left out of a larger view; of one larger still the middle is shown."""
PLANES_BYTES = 2**30


class View(NamedTuple):
    """What is on the screen.

    Attributes:
        window: its pixels of the earlier date.
        step: every so many rows and columns are mapped.
        whole: nothing of the screen is left out.
    """

    window: Window
    step: int
    whole: bool


class Refits:
    """What stays between clicks: one pair, its marks, one view."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._pair_key: object = None
        self._view_key: object = None
        self._scene: Scene | None = None
        self._planes: Planes | None = None
        self._known: dict[object, np.ndarray] = {}
        self._number = 0

    def refit(self, config: RefineChangeConfig, screen: dict[str, Any], stem: str) -> dict[str, Any]:
        """Learn from the marks and map the screen.

        Args:
            screen: `bounds`, west, south, east, north in `crs`.
            stem: of the path of the maps; the one before stays until the next but one.

        Returns:
            path, kinds (classes of a style), cuts (probability for each share of the slider), marks (how many of each
            class), whole (nothing of the screen is left out), notes, seconds (of each part).

        Raises:
            UserError: the rasters cannot be compared, too few places are marked, or the screen shows none of the pair.
        """
        began = time.perf_counter()
        scene = self._open(config)
        grid = scene.pair.before.grid
        marks = read_marks(config, grid)
        view = find_view(scene, screen)
        opened = time.perf_counter()
        if self._planes is None or self._view_key != view:
            self._planes = None  # its memory first
            cells = scene.look(view.window, keep=True)
            self._planes, self._view_key = scene.read(view.window, cells, view.step), view
        looked = time.perf_counter()
        self._known = {mark.key: self._known[mark.key] for mark in marks.marks if mark.key in self._known}
        weights = learn(scene, marks.marks, self._known)
        learned = time.perf_counter()
        code_HW = likeness(self._planes, weights)
        counter = ShareCounter()
        counter.add(code_HW)
        mapped = time.perf_counter()
        self._number += 1
        path = Path(f"{stem}-{self._number % 2 + 1}.tif")
        path.parent.mkdir(parents=True, exist_ok=True)
        transform = grid.crop(view.window).transform
        place = {"crs": grid.crs, "transform": transform @ transform.scale(view.step), "nodata": math.nan}
        write_raster(path, code_HW[None], place)
        ends = (began, opened, looked, learned, mapped, time.perf_counter())
        numbers = [mark.kind for mark in marks.marks]
        return {
            "path": str(path),
            "kinds": classes(marks),
            "cuts": counter.cuts(),
            "marks": [numbers.count(number) for number in range(1 + len(marks.kinds))],
            "whole": view.whole,
            "notes": [*_notes(scene), *marks.notes],
            "seconds": dict(
                zip(("marks", "view", "learn", "map", "write"), map(_between, ends, ends[1:]), strict=True)
            ),
        }

    def close(self) -> None:
        """Close the rasters, and forget."""
        self._stack.close()
        self._pair_key = self._view_key = self._scene = self._planes = None
        self._known = {}

    def _open(self, config: RefineChangeConfig) -> Scene:
        files = config.before, config.after, config.before_mask, config.after_mask, config.model
        how = config.bands, config.mask_values, config.correct_shift, config.device
        key = (*map(_state, files), *how)
        if self._scene is None or key != self._pair_key:
            self.close()
            scene = self._stack.enter_context(open_scene(config))
            if config.model:
                scene.encoded = load_encoder(config, scene.pair, lambda: None)
            self._scene, self._pair_key = scene, key
        return self._scene


def find_view(scene: Scene, screen: dict[str, Any]) -> View:
    """Choose what to map: what is on the screen, or as much of its middle as an answer may cost.

    Raises:
        UserError: none of it is.
    """
    window = on_screen(screen, scene.pair.before.grid)
    inside = scene.pair.window if window is None else window.intersection(scene.pair.window)
    if inside.height == 0 or inside.width == 0:
        raise UserError("The map shows none of the two rasters. Zoom to where they overlap.")
    planes = 4 * scene.pair.before.bands + 2 * (scene.encoded.components if scene.encoded else 0)
    side = min(LARGEST, int(math.sqrt(PLANES_BYTES / (4 * planes))))
    step = min(max(1, -(-max(inside.height, inside.width) // side)), COARSEST)
    height, width = min(inside.height, side * step), min(inside.width, side * step)
    row, column = inside.row + (inside.height - height) // 2, inside.column + (inside.width - width) // 2
    return View(Window(row, column, height, width), step, (height, width) == (inside.height, inside.width))


def serve(source: IO[bytes], sink: IO[bytes]) -> None:
    """Answer until the source ends."""
    refits = Refits()
    while line := source.readline():
        try:
            asked = json.loads(line)
            config = read_config(RefineChange, asked["config"])
            said: dict[str, Any] = {"result": refits.refit(config, asked["screen"], asked["stem"])}
        except UserError as error:
            said = {"error": str(error), "field": error.field}
        except Exception as error:  # the next click may go well
            print(traceback.format_exc(), file=sys.stderr)
            said = {"error": f"{type(error).__name__}: {error}", "field": None}
        sink.write(json.dumps(said, ensure_ascii=False).encode() + b"\n")
    refits.close()


def main(_: list[str]) -> int:
    """Serve on standard input and a private duplicate of standard output."""
    protocol = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # whatever prints from here on stays out of the answers
    serve(sys.stdin.buffer, protocol)
    return 0


def _notes(scene: Scene) -> list[str]:
    """Say what the user should know about the pair: how its grids were made one, and where no shift was corrected."""
    finding = alignment(scene.shift, moved=True) if scene.shift else None
    return [*scene.pair.notes, *([finding.text] if finding and finding.state == "unknown" else [])]


def _state(path: str | None) -> tuple[str, int]:
    """Tell a file from what it was before it was written again."""
    try:
        return str(path), os.stat(str(path)).st_mtime_ns
    except OSError:
        return str(path), 0


def _between(first: float, second: float) -> float:
    return round(second - first, 4)
