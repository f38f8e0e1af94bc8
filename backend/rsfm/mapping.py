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
from rsfm.errors import Paused, Stopped
from rsfm.inference import TileNetwork, plan_for, run_tiles
from rsfm.inference_config import TilingConfig
from rsfm.model_file import Model
from rsfm.preview import Show, small_preview, view_preview, view_window
from rsfm.raster.area import Area
from rsfm.raster.background import Background, Work
from rsfm.raster.collection_source import entry_of
from rsfm.raster.dates import date_tags
from rsfm.raster.grid import Window
from rsfm.raster.reader import Raster
from rsfm.raster.strips import lay_out
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
    show: Show | None = None,
    part: tuple[float, float] = (0, 1),
) -> None:
    """Run a network over the rows from `row` of the result on; over those of a share, where processes share them.

    Args:
        finish: returns what is to be done with rows in another thread, and the bytes that it holds.
        show: what of it can be seen meanwhile.
        part: of the whole work that this is, first and end; for the progress.

    Raises:
        Paused: the rows of the share are done, or the process must be told which they are.
    """
    raster, area, tiling, device = place
    cells, window = area.window.cells(network.stride), area.window
    if row == cells.height:
        return
    share = current()
    first, end = (share.first, share.end) if share else (0, cells.height)
    side = plan_for(network, tiling).side
    compute_as_before(network, raster.bands, side, device, unfinished, run)
    if share and share.stop:
        raise Stopped
    if first == end:
        raise Paused(row, cells.height)
    top = max((cells.row + row) * network.stride, window.row)
    bottom = min((cells.row + end) * network.stride, window.row + window.height)
    rest = window._replace(row=top, height=bottom - top)
    done = part[0] + (part[1] - part[0]) * (row - first) / (end - first)
    inside = None if area.outlines is None else area.inside
    batch = int(unfinished.kept["batch"])
    preview = small_preview(run, show, row) if show and not share else None
    if show and row == 0 and not share:
        _map_view(network, place, batch, show, run)
    with Background() as background:

        def finish_rows(rows_KHW: NDArray[np.float32], valid_HW: NDArray[np.bool_]) -> None:
            background.do(*finish(rows_KHW, valid_HW))
            if preview is not None:
                background.do(*preview.take(rows_KHW, valid_HW))

        def report(ran: float) -> None:
            _tell(run, done + (part[1] - done) * ran)

        run_tiles(network, raster, rest, tiling, device, batch, finish_rows, run.check, report, inside)
    if share:
        raise Paused(end, cells.height)


def _map_view(network: TileNetwork, place: Place, batch: int, show: Show, run: Run) -> None:
    """Map what is on the screen into a preview; the rows that follow do it again."""
    raster, area, tiling, device = place
    plan = plan_for(network, tiling)

    def work(window: Window) -> float:
        layout = lay_out(raster.grid, window, plan)
        return -(-len(layout.rows) * len(layout.columns) // batch) * batch  # the last batch is filled up

    window = view_window(run, raster.grid, area.window, work)
    if window is None:
        return
    run.progress(0, "Mapping what is on the screen")
    preview = view_preview(run, show, raster.grid.shrink(network.stride).crop(window.cells(network.stride)))
    inside = None if area.outlines is None else area.inside
    run_tiles(
        network, raster, window, tiling, device, batch, lambda *rows: preview.take(*rows)[0](), run.check,
        lambda _: None, inside,
    )  # fmt: skip
    preview.write()


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
