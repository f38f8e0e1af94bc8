"""A map of the screen that follows the labels while they are drawn.

The plugin writes labels and view into files and replaces them as a whole; whenever one is another, the map is drawn
again. While nobody changes anything, what was left coarse or out is made up for. The session ends when it is told to,
when `look.json` is gone, or when nobody has touched it for a while: then QGIS was closed.

Shape letters: H rows, W columns.
"""

import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rsfm.errors import UserError
from rsfm.jobs.probe import ProbeConfig
from rsfm.labelling.feature_cache import FeatureCache
from rsfm.labelling.labelled_shapes import LabelledShapes, Training
from rsfm.labelling.learners import Learner, learn
from rsfm.labelling.quick_map import draw
from rsfm.labelling.workbench import LARGEST, class_style, middle, open_cache, place_of
from rsfm.outputs.classes import Classes
from rsfm.preview import on_screen, write_raster
from rsfm.raster.area import read_area
from rsfm.raster.grid import Window
from rsfm.raster.label_file import Drawing, Parameters, read_drawing, split_source
from rsfm.runs import Run

LOOK_SECONDS = 0.02
PATIENCE_SECONDS = 120
SHAPES_SECONDS = 1.0
"""Time for shapes that were not seen before, until a map is drawn of what is known."""
PARTS_SECONDS = 1.0
"""Time for features that were not computed before, until a map is drawn of what is there."""
DRAW_SECONDS = 0.7
"""A learner that needs longer for all pixels draws a coarse map first."""
COARSEST = 8
KEPT_MAPS = 3
OPACITY = 0.55
FILE = "quick_map.tif"

Stamp = tuple[int, ...]


class Seen(NamedTuple):
    """What the map is made of: when the labels were written, and what is looked at."""

    labels: Stamp
    look: bytes


def probe(config: ProbeConfig, run: Run) -> dict[str, Any]:
    """Map the view once; or, where the look says that it stays, at each change until it ends."""
    with open_cache(config, run) as cache:
        session = Session(config, cache, run)
        if (run.look or {}).get("stays"):
            return session.follow()
        return session.once()


class Session:
    """The state of a map that follows the labels."""

    def __init__(self, config: ProbeConfig, cache: FeatureCache, run: Run) -> None:
        self._config, self._cache, self._run = config, cache, run
        self._shapes = LabelledShapes(cache, config.seed)
        self._colours: dict[str, str] = {}
        self._drawing: Drawing | None = None
        self._training: Training | None = None
        self._learner: Learner | None = None
        self._view, self._is_part = self._find_view()
        self._step, self._number, self._said = 1, 0, ""
        self._labels_path = Path(split_source(config.labels)[0])
        self._look_path = run.folder / "look.json"

    def once(self) -> dict[str, Any]:
        """Write the map of the view as an output."""
        if not self._view.height:
            name = self._cache.raster.name
            raise UserError(f"No part of '{name}' is on the screen. Zoom to it, or choose an 'Area' of it.", "area")
        self._read_labels()
        while self._training is None or self._training.waiting:
            self._collect()
        self._fit()
        for part in self._cache.missing(self._view):
            self._run.check()
            self._cache.compute(part, self._run.check)
        path = self._run.outputs / FILE
        self._write(path, draw(self._cache, self._view, self._learned))
        self._run.output("classes", path, "Quick map", classes=self._style())
        return {"sentence": self._sentence(), "classes": list(self._training.names), "shapes": self._training.shapes}

    def follow(self) -> dict[str, Any]:
        """Draw at each change until the end."""
        seen, touched, touch = Seen((), b""), time.monotonic(), _stamp(self._look_path)
        self._say("Getting ready")
        rest = False
        while True:
            self._run.check()
            now = self._stamps()
            if (latest := _stamp(self._look_path)) != touch:
                touched, touch = time.monotonic(), latest
            if not now.look or time.monotonic() - touched > PATIENCE_SECONDS:
                return {"sentence": "The map followed the labels until nobody looked.", "maps": self._number}
            if now == seen and not rest:
                time.sleep(LOOK_SECONDS)
                continue
            began = time.monotonic()
            try:
                rest = self._go_on(now, seen)
            except UserError as error:
                rest = False
                self._say(str(error))
            seen = now
            self._took(time.monotonic() - began)

    def _go_on(self, now: Seen, seen: Seen) -> bool:
        """Do what a change asks for, or a piece of what was left; tells whether more is left."""
        if now.labels != seen.labels:
            self._training = self._learner = None
            self._read_labels()
        moved = False
        if now.look != seen.look:
            view, self._is_part = self._find_view()
            moved, self._view = view != self._view, view
            if not moved and now.labels == seen.labels:
                return self._left()
        if self._drawing is None:
            return False
        if self._training is None or self._training.waiting:
            self._collect()
            self._learner = None
        if self._training is None or len(self._training.names) < 2:
            return True
        if self._learner is None:
            self._fit()
            moved = True
        if not self._view.height:
            return False
        if moved:
            self._step = self._first_step()
        self._compute()
        class_HW = draw(self._cache, self._view, self._learned, self._step, lambda: self._stamps() == now)
        if class_HW is None:
            return True
        self._show(class_HW)
        if not self._cache.missing(self._view):
            self._step //= 2
        return self._left()

    def _left(self) -> bool:
        """Tell whether something is left to be done though nothing changes."""
        if self._training is None:
            return False
        drawn = self._step == 0 and not self._cache.missing(self._view)
        return self._training.waiting > 0 or (not drawn and self._view.height > 0)

    @property
    def _learned(self) -> Learner:
        if self._learner is None:
            raise RuntimeError("nothing was learned yet")
        return self._learner

    def _stamps(self) -> Seen:
        try:
            look = self._look_path.read_bytes()
        except OSError:
            look = b""
        return Seen(_stamp(self._labels_path), look)

    def _find_view(self) -> tuple[Window, bool]:
        """Return the blocks on the screen, or in the middle of it, and whether they are not all of it."""
        grid = self._cache.raster.grid
        window = None
        if self._config.area:
            window = read_area(grid, self._config.area).window
        elif self._run.look:
            window = on_screen(self._run.look, grid)
        window = (window or grid.window).intersection(grid.window)
        if not window.height or not window.width:
            return Window(0, 0, 0, 0), False
        part = middle(window)
        return self._cache.look_at(part), part != window

    def _read_labels(self) -> None:
        """Read what is drawn; colours that were given once stay."""
        config = self._config
        self._drawing = None
        self._drawing = read_drawing(config.labels, config.class_field, self._cache.raster.grid.crs, Parameters())

    def _collect(self) -> None:
        if self._drawing is not None:
            self._training = self._shapes.collect(self._drawing, self._view, SHAPES_SECONDS, self._run.check)

    def _fit(self) -> None:
        training = self._training
        if training is not None:
            features_ND, class_N = training.features_ND, training.class_N
            self._learner = learn(self._config.learner, features_ND, class_N, len(training.names), self._config.seed)

    def _first_step(self) -> int:
        """Choose the step of the first map, by the time that the learner needs for some pixels."""
        if self._cache.stride > 1 or self._training is None or self._config.learner == "linear":
            return 1
        sample_DN = np.ascontiguousarray(self._training.features_ND[:2000].T)
        began = time.perf_counter()
        self._learned.values(sample_DN)
        pixels = self._view.height * self._view.width
        seconds = (time.perf_counter() - began) / sample_DN.shape[1] * pixels
        step = 1
        while step < COARSEST and seconds / step**2 > DRAW_SECONDS:
            step *= 2
        return step

    def _compute(self) -> None:
        """Compute features of the view, for a while."""
        began = time.monotonic()
        for part in self._cache.missing(self._view):
            if time.monotonic() - began > PARTS_SECONDS or self._moved():
                return
            self._run.check()
            self._cache.compute(part, self._run.check)

    def _moved(self) -> bool:
        """Tell whether the canvas shows something else by now."""
        view, _ = self._find_view()
        self._cache.look_at(self._view)
        return view != self._view

    def _show(self, class_HW: NDArray[np.uint8]) -> None:
        """Show a map in place of the one before."""
        self._number += 1
        self._run.previews.mkdir(exist_ok=True)
        path = self._run.previews / f"map_{self._number:06}.tif"
        self._write(path, class_HW)
        key = str(self._run.previews / "map-view")
        self._run.preview("classes", path, key, "Map while I label", classes=self._style(), opacity=OPACITY)
        self._said = ""  # a sentence follows each map, the same one too
        old = self._run.previews / f"map_{self._number - KEPT_MAPS:06}.tif"
        with suppress(OSError):  # QGIS has it open
            old.unlink(missing_ok=True)

    def _write(self, path: Path, class_HW: NDArray[np.uint8] | None) -> None:
        if class_HW is not None:
            grid = self._cache.raster.grid.crop(self._view)
            write_raster(path, class_HW[None], {**place_of(grid), "nodata": Classes.nodata})

    def _style(self) -> list[dict[str, Any]]:
        names = self._training.names if self._training is not None else ()
        given = {**self._colours, **(self._drawing.colours if self._drawing is not None else {})}
        style = class_style(names, given)
        self._colours.update({entry["name"]: entry["colour"] for entry in style})
        return style

    def _sentence(self) -> str:
        """Say what the map was made of."""
        training = self._training
        if training is None:
            return ""
        parts = [f"{len(training.names)} classes, {training.shapes} polygons"]
        if training.waiting:
            parts.append(f"{training.waiting} more to come")
        if self._is_part:
            parts.append(f"the middle {LARGEST} x {LARGEST} pixels: zoom in to see the rest")
        return "; ".join(parts) + "."

    def _took(self, seconds: float) -> None:
        """Say how things stand after a piece of work."""
        if self._training is None or self._learner is None:
            return None
        if not self._view.height:
            return self._say("The raster is not on the screen.")
        missing = len(self._cache.missing(self._view))
        rest = f" {missing} parts of the view to come." if missing else ""
        return self._say(f"{self._sentence()[:-1]}, {max(seconds, 0.1):.1f} s.{rest}")

    def _say(self, text: str) -> None:
        if text != self._said:
            self._said = text
            self._run.emit("progress", fraction=0.0, message=text, eta_seconds=None)


def _stamp(path: Path) -> Stamp:
    """Return what changes when a file is replaced; nothing where there is none. A database has a log beside it."""
    found: Stamp = ()
    for name in (path, path.with_name(f"{path.name}-wal")):
        with suppress(OSError):
            status = name.stat()
            found += (status.st_mtime_ns, status.st_size, status.st_ino)
    return found
