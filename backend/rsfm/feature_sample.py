"""A seeded sample of what a network makes of a raster, to which components and clusters are fitted.

It is taken from tiles spread over the whole raster, each run alone, so that it costs what a few tiles cost and is the
same whatever area is mapped.

Shape letters: D outputs, H rows, W columns, N cells.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from rsfm.errors import UserError
from rsfm.inference import TileNetwork, plan_for, run_tiles, usual_batch
from rsfm.mapping import Place
from rsfm.raster.area import Area
from rsfm.raster.grid import Window
from rsfm.raster.strips import Layout, lay_out
from rsfm.raster.tiling import USUAL_SIDE

TILES = 64
CELLS = 100_000


def whole(place: Place) -> Place:
    """Return the whole raster as a place."""
    return place._replace(area=Area(place.raster.grid.window))


def sample_features(
    network: TileNetwork, place: Place, seed: int, check: Callable[[], None], cells: int = CELLS
) -> NDArray[np.float32]:
    """Return features_ND of at most `cells` valid cells; a raster of few tiles gives all that it has, up to that.

    Raises:
        UserError: there is hardly a valid one.
    """
    side = {"tile_size": place.tiling.tile_size or USUAL_SIDE, "tile_overlap": 0}
    alone = place._replace(tiling=place.tiling.model_copy(update=side))
    plan = plan_for(network, alone.tiling)
    layout = lay_out(place.raster.grid, place.area.window, plan)
    count = len(layout.rows) * len(layout.columns)
    quota = cells // min(count, TILES)
    random = np.random.default_rng(seed)
    found: list[NDArray[np.float32]] = []
    for number in random.permutation(count):
        check()
        features_ND = _features(network, alone if place.tiling.tile_size else place, _own(layout, int(number)))
        if len(features_ND):
            found.append(features_ND[np.sort(random.permutation(len(features_ND))[:quota])])
        if len(found) == TILES:
            break
    if sum(map(len, found)) < 2:
        raise UserError("The area has hardly a valid pixel. Choose a larger one under 'Area'.", "area")
    return np.concatenate(found)


def _features(network: TileNetwork, place: Place, window: Window) -> NDArray[np.float32]:
    """Return features_ND of the valid cells of a window."""
    found: list[NDArray[np.float32]] = []

    def keep(features_DHW: NDArray[np.float32], valid_HW: NDArray[np.bool_]) -> None:
        found.append(features_DHW[:, valid_HW].T.copy())

    def ignore(_: object = None) -> None: ...

    inside, batch = None if place.area.outlines is None else place.area.inside, usual_batch(network, place.tiling)
    run_tiles(network, place.raster, window, place.tiling, place.device, batch, keep, ignore, ignore, inside)
    return np.concatenate(found)


def _own(layout: Layout, number: int) -> Window:
    """Return the pixels, of those asked for, that belong to a tile alone."""
    row, column = divmod(number, len(layout.columns))
    first = layout.columns[column]
    top, bottom = layout.owned_rows(layout.rows[row])
    left, right = layout.owned_columns(range(first, first + 1))
    return Window(top, left, bottom - top, right - left).intersection(layout.grid.window)
