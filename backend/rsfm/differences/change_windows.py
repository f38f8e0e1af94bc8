"""Windows of two dates to learn from: around changes and where nothing changed, turned and enlarged alike.

Shape letters: B batch, C bands of both dates, H rows, W columns, S side of a window, F polygons.
"""

from typing import NamedTuple

import numpy as np
import shapely
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from rsfm.blocks.normalisation import Normalisation
from rsfm.differences.change_labels import IGNORED
from rsfm.differences.change_split import LabelledChange
from rsfm.differences.two_dates import TwoDates
from rsfm.errors import UserError
from rsfm.raster.grid import Window
from rsfm.raster.statistics import Statistics
from rsfm.training.box_windows import turned

AROUND_CHANGES = 0.5
"""Share of the windows that lie around a change; the others lie where nothing changed."""
PLACES = 50
"""Random places that are tried for one with something to learn from."""


class ChangeSample(NamedTuple):
    """A batch of windows.

    Attributes:
        pixels_BCHW: normalised, both dates, 0 where invalid.
        target_BHW: class of each pixel, uint8; IGNORED where nothing is learned.
        labelled_B: pixels of the whole batch from which is learned, a window, so that parts of it add up to its loss.
    """

    pixels_BCHW: Tensor
    target_BHW: Tensor
    labelled_B: Tensor


class ChangeWindows:
    """Makes batches; the same step gives the same one."""

    def __init__(
        self,
        dates: TwoDates,
        statistics: Statistics,
        labelled: LabelledChange,
        side: int,
        batch: int,
        zoom: float,
        seed: int,
    ) -> None:
        self._dates, self._labelled = dates, labelled
        self._normalisation = Normalisation.from_statistics(statistics)
        self._side, self._batch, self._zoom, self._seed = side, batch, zoom, seed

    def batch(self, step: int) -> ChangeSample:
        """Make the sample of a step.

        Raises:
            UserError: what was drawn lies where there are no pixels.
        """
        random = np.random.default_rng((self._seed, step))
        windows = [self._window(random) for _ in range(self._batch)]
        pixels_BCHW = torch.stack([pixels_CSS for pixels_CSS, _ in windows])
        target_BHW = torch.stack([target_SS for _, target_SS in windows])
        labelled = float((target_BHW != IGNORED).sum()) / len(windows)
        return ChangeSample(pixels_BCHW, target_BHW, torch.full((len(windows),), labelled))

    def _window(self, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Return pixels_CSS and target_SS of a window with something to learn from."""
        side = round(self._side / random.uniform(1, self._zoom))
        for _ in range(PLACES):
            row, column = self._place(random)
            shift_row, shift_column = random.integers(-side * 3 // 8, side * 3 // 8 + 1, 2)
            window = Window(row + int(shift_row) - side // 2, column + int(shift_column) - side // 2, side, side)
            target_SS = self._labelled.target(window, "train")
            if (target_SS != IGNORED).any():
                pixels_CSS, valid_SS = self._dates.read(window)
                target_SS[~valid_SS] = IGNORED
                if (target_SS != IGNORED).any():
                    return self._prepared(pixels_CSS, valid_SS, target_SS, random)
        raise UserError(
            "What was drawn lies where one of the two rasters has no pixels. Draw changes and unchanged ground where "
            "both have some, under 'Changes' and 'All drawn in'.",
            "changes",
        )

    def _prepared(
        self,
        pixels_CSS: NDArray[np.float32],
        valid_SS: NDArray[np.bool_],
        target_SS: NDArray[np.uint8],
        random: np.random.Generator,
    ) -> tuple[Tensor, Tensor]:
        turn, mirror = int(random.integers(4)), bool(random.integers(2))
        pixels, valid, target = (
            torch.from_numpy(turned(values, turn, mirror)) for values in (pixels_CSS, valid_SS, target_SS)
        )
        pixels_1CSS = self._normalisation(pixels[None], valid[None])
        if len(target_SS) != self._side:
            size = (self._side, self._side)
            pixels_1CSS = functional.interpolate(pixels_1CSS, size, mode="bilinear", align_corners=False)
            target = functional.interpolate(target[None, None].float(), size, mode="nearest-exact")[0, 0].byte()
        return pixels_1CSS[0], target

    def _place(self, random: np.random.Generator) -> tuple[int, int]:
        """Draw a pixel in a change, or on ground of which it is said that it did not change."""
        labels, learned = self._labelled.labels, self._labelled.learned
        if random.random() < AROUND_CHANGES:
            return _inside(learned.shapes_F[int(random.integers(len(learned)))], random)
        shapes = len(labels.unchanged)
        if labels.complete is None or (shapes and random.random() < 0.5):
            return _inside(labels.unchanged.shapes_F[int(random.integers(shapes))], random)
        area = labels.complete.window.intersection(self._dates.pair.window)
        return area.row + int(random.integers(area.height)), area.column + int(random.integers(area.width))


def _inside(shape: shapely.Geometry, random: np.random.Generator) -> tuple[int, int]:
    """Draw a pixel in the rectangle around a shape."""
    left, top, right, bottom = shapely.bounds(shape)
    return int(random.uniform(top, bottom)), int(random.uniform(left, right))
