"""Two dates as one raster: the bands of the earlier one, then those of the later one on the same grid.

Shape letters: C bands of both, H rows, W columns.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from rsfm.differences.learned_pair import bands_of_model
from rsfm.differences.opening import describe, open_aligned
from rsfm.differences.pair_config import AlignedPairConfig
from rsfm.differences.shift import Shift
from rsfm.errors import UserError
from rsfm.model_file import Model
from rsfm.raster.grid import Window, parse_area
from rsfm.raster.pair import Pair
from rsfm.raster.reader import Raster
from rsfm.raster.resampled import Resampled
from rsfm.raster.statistics import Statistics, band_statistics
from rsfm.training.finetuning import as_read_by


class TwoDates(Raster):
    """Both dates of a pair on the grid of the earlier one; valid is what is valid on both.

    Attributes:
        pair: the dates.
        shift: how far the later one lay off before it was moved back, if it was.
        known_as: what the files say of the bands of a date, whatever the model calls them.
    """

    def __init__(self, pair: Pair, shift: Shift, known_as: tuple[str, ...]) -> None:
        before, after = pair.before, pair.after
        self.pair, self.shift, self.known_as, self.grid = pair, shift, known_as, before.grid
        self.path, self.name, self.field = before.path, before.name, before.field
        self.bands = before.bands + after.bands
        self.band_names = tuple(f"{name}, {date}" for date in ("before", "after") for name in before.band_names)
        self.numbers = list(range(1, self.bands + 1))
        self.dtype, self.nodata, self.block = np.dtype(np.float32), None, before.block

    def close(self) -> None:
        """Do nothing: the files belong to the pair."""

    def release(self) -> None:
        self.pair.before.release()
        self.pair.after.release()

    def cells(self) -> None:
        """Return None: a window is resampled as a whole."""

    def overview(self, factor: int) -> tuple[Raster, int]:
        return self, factor

    def statistics(self, of_model: Statistics | None) -> tuple[Statistics, Statistics]:
        """Return what each date is normalised by.

        Args:
            of_model: for both; None measures each date over the overlap, so that no area changes them.
        """
        if of_model is not None:
            return of_model, of_model
        before, after = self.pair.before, self.pair.after
        return tuple(band_statistics([date], [self.pair.window], 0) for date in (before, after))  # type: ignore[return-value]

    def part(self, area: str | None) -> Window:
        """Return the part of the overlap that is asked for.

        Raises:
            UserError: there is none.
        """
        window = parse_area(self.grid, area).intersection(self.pair.window)
        if window.height == 0 or window.width == 0:
            raise UserError(
                "The area lies outside the part that the two rasters share. Draw another one under 'Area', or leave it "
                "empty to take the whole overlap.",
                "area",
            )
        return window

    def _read_inside(self, window: Window, pixels_CHW: np.ndarray, valid_HW: np.ndarray) -> None:
        half = self.bands // 2
        pixels_CHW[:half], pixels_CHW[half:], valid_HW[:] = self.pair.read(window)


@contextmanager
def open_dates(
    config: AlignedPairConfig, model: Model | None, done: Callable[[float], None] = lambda part: None
) -> Iterator[TwoDates]:
    """Open two dates as the job's parameters say, and as a model reads them if one is given.

    Args:
        done: told which part of the looking for a shift is done.

    Raises:
        UserError: they are no pair, or their bands are not the model's.
    """
    described = describe(config)
    numbers = bands_of_model(model.card, described) if model else None
    with open_aligned(config, described, done, numbers) as (pair, shift):
        names = {band.number: band.name for band in described.before.bands}
        known_as = tuple(names.get(number, f"Band {number}") for number in pair.before.numbers)
        yield TwoDates(_as_read_by(model, pair) if model else pair, shift, known_as)


def _as_read_by(model: Model, pair: Pair) -> Pair:
    card = model.card
    if card.units:
        before = as_read_by(model, pair.before)
        return pair._replace(before=before, after=Resampled(as_read_by(model, pair.after.raster), before.grid))
    if card.bands != pair.before.bands:
        raise UserError(
            f"The model was trained on {card.bands} bands and the rasters have {pair.before.bands}. Choose a model of "
            f"{pair.before.bands} bands under 'Model', or rasters of {card.bands}.",
            "model",
        )
    return pair
