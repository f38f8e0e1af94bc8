"""What every map of a whole raster shares: its place, the rows that remain to be done, and where it comes from.

Shape letters: K outputs, H rows, W columns.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from rsfm import __version__
from rsfm.batch_size import choose_batch
from rsfm.errors import Paused, Stopped
from rsfm.inference import TileNetwork, run_tiles
from rsfm.inference_config import TilingConfig
from rsfm.model_file import Model
from rsfm.raster.area import Area
from rsfm.raster.background import Background, Work
from rsfm.raster.reader import Raster
from rsfm.raster.tiling import plan_tiles
from rsfm.runs import Run
from rsfm.shares import current
from rsfm.unfinished import Unfinished

MAPPED = 0.95
"""Share of the work before vectors are made."""


class Place(NamedTuple):
    """What is mapped, how it is cut, and on which device."""

    raster: Raster
    area: Area
    tiling: TilingConfig
    device: str


def map_rows(
    network: TileNetwork,
    place: Place,
    row: int,
    unfinished: Unfinished,
    finish: Callable[[NDArray[np.float32], NDArray[np.bool_]], tuple[Work, int]],
    run: Run,
) -> None:
    """Run a network over the rows from `row` of the result on; over those of a share, where processes share them.

    Args:
        finish: returns what is to be done with rows in another thread, and the bytes that it holds.

    Raises:
        Paused: the rows of the share are done, or the process must be told which they are.
    """
    raster, area, tiling, device = place
    cells, window = area.window.cells(network.stride), area.window
    if row == cells.height:
        return
    share = current()
    first, end = (share.first, share.end) if share else (0, cells.height)
    _compute_as_before(network, place, unfinished, run)
    if share and share.stop:
        raise Stopped
    if first == end:
        raise Paused(row, cells.height)
    top = max((cells.row + row) * network.stride, window.row)
    bottom = min((cells.row + end) * network.stride, window.row + window.height)
    rest = window._replace(row=top, height=bottom - top)
    done = (row - first) / (end - first)
    inside = None if area.outlines is None else area.inside
    with Background() as background:
        run_tiles(
            network,
            raster,
            rest,
            tiling,
            device,
            int(unfinished.kept["batch"]),
            lambda rows_KHW, valid_HW: background.do(*finish(rows_KHW, valid_HW)),
            run.check,
            lambda part: run.progress((done + (1 - done) * part) * MAPPED, f"{done + (1 - done) * part:.0%} is mapped"),
            inside,
        )
    if share:
        raise Paused(end, cells.height)


def _compute_as_before(network: TileNetwork, place: Place, unfinished: Unfinished, run: Run) -> None:
    """Choose what the last digits depend on at the first start, and keep to it at every later."""
    raster, _, tiling, device = place
    if "batch" not in unfinished.kept:
        side = plan_tiles(tiling, network.multiple, network.stride, network.margin).side
        batch = choose_batch(network, raster.bands, side, device, unfinished.model)
        unfinished.keep(batch=batch, device=device, threads=torch.get_num_threads())
    if unfinished.kept["device"] != device:
        run.warning(
            f"The rows done before were computed on {unfinished.kept['device']} and the rest will be on {device}: "
            "values may differ in their last digits."
        )
    torch.set_num_threads(int(unfinished.kept["threads"]))


@contextmanager
def reported(path: Path, report: Callable[[], None]) -> Iterator[None]:
    """Report a file once it is there, also when the user stops the run."""
    try:
        yield
    except Stopped:
        if path.exists():
            report()
        raise
    report()


def provenance(model: Model, raster: Raster, config: str, device: str) -> dict[str, str]:
    """Say in an output's metadata where it comes from."""
    return {
        "RSFM_VERSION": __version__,
        "RSFM_MODEL": model.card.title,
        "RSFM_SOURCE": raster.name,
        "RSFM_CONFIG": config,
        "RSFM_DEVICE": device,
        "RSFM_LICENCE": model.card.licence,
        "RSFM_CLASSES": "; ".join(f"{name.value} {name.name}" for name in model.card.classes),
    }
