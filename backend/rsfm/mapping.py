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
from torch import nn

from rsfm import __version__
from rsfm.batch_size import choose_batch
from rsfm.errors import Stopped
from rsfm.inference import TileNetwork, run_tiles
from rsfm.inference_config import TilingConfig
from rsfm.model_file import Model
from rsfm.raster.area import Area
from rsfm.raster.background import Background, Work
from rsfm.raster.collection_source import entry_of
from rsfm.raster.dates import date_tags
from rsfm.raster.reader import Raster
from rsfm.raster.tiling import plan_tiles
from rsfm.runs import Run
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
    part: tuple[float, float] = (0, 1),
) -> None:
    """Run a network over the rows from `row` of the result on.

    Args:
        finish: returns what is to be done with rows in another thread, and the bytes that it holds.
        part: of the whole work that this is, first and end; for the progress.
    """
    raster, area, tiling, device = place
    cells, window = area.window.cells(network.stride), area.window
    if row == cells.height:
        return
    top = max((cells.row + row) * network.stride, window.row)
    rest = window._replace(row=top, height=window.row + window.height - top)
    done = part[0] + (part[1] - part[0]) * row / cells.height
    side = plan_tiles(tiling, network.multiple, network.stride, network.margin).side
    compute_as_before(network, raster.bands, side, device, unfinished, run)
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
            lambda ran: _tell(run, done + (part[1] - done) * ran),
            inside,
        )


def _tell(run: Run, done: float) -> None:
    run.progress(done * MAPPED, f"{done:.0%} is mapped")


def compute_as_before(network: nn.Module, bands: int, side: int, device: str, unfinished: Unfinished, run: Run) -> None:
    """Choose what the last digits depend on at the first start, and keep to it at every later.

    Args:
        side: of a tile, in pixels.
    """
    if "batch" not in unfinished.kept:
        batch = choose_batch(network, bands, side, device, unfinished.model)
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
        **date_tags(entry_of(raster)),
        "RSFM_VERSION": __version__,
        "RSFM_MODEL": model.card.title,
        "RSFM_SOURCE": raster.name,
        "RSFM_CONFIG": config,
        "RSFM_DEVICE": device,
        "RSFM_LICENCE": model.card.licence,
        "RSFM_CLASSES": "; ".join(f"{name.value} {name.name}" for name in model.card.classes),
    }
