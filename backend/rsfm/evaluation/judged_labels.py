"""Which labelled pixels a map is judged by: those of an area, and none that the model has learnt from.

Shape letters: N labelled pixels.
"""

import json
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import RasterioError

from rsfm.errors import UserError
from rsfm.model_file import Card, read_card
from rsfm.raster.area import Area, read_area
from rsfm.raster.grid import Window
from rsfm.raster.label_file import split_source
from rsfm.raster.labels import Labels
from rsfm.raster.reader import Raster
from rsfm.runs import Run

Flags = NDArray[np.bool_]

SIDE = 512
"""Labelled pixels are looked up in squares of so many pixels."""
FLATTERS = "The scores flatter: judge by other polygons, or by an area of their own."


def only_in_area(labels: Labels, area: Area, name: str) -> Labels:
    """Keep the labelled pixels of an area.

    Args:
        name: of the raster.

    Raises:
        UserError: there are none.
    """
    inside_N = within(labels, area)
    if not inside_N.any():
        raise UserError(
            f"No labelled pixel of '{name}' lies in the area. Draw it around labels under 'Area', or leave it empty.",
            "area",
        )
    return only(labels, inside_N)


def within(labels: Labels, area: Area) -> Flags:
    """Tell which labelled pixels lie in an area."""
    top, left, height, width = area.window
    inside_N = (labels.rows_N >= top) & (labels.rows_N < top + height)
    inside_N &= (labels.columns_N >= left) & (labels.columns_N < left + width)
    if area.outlines is None:
        return inside_N
    tile_N = labels.rows_N // SIDE * 2**20 + labels.columns_N // SIDE
    for tile in np.unique(tile_N[inside_N]):
        at = np.flatnonzero(tile_N == tile)
        window = Window(int(tile >> 20) * SIDE, int(tile % 2**20) * SIDE, SIDE, SIDE)
        inside_N[at] &= area.inside(window)[labels.rows_N[at] - window.row, labels.columns_N[at] - window.column]
    return inside_N


def only(labels: Labels, kept_N: Flags) -> Labels:
    """Keep some labelled pixels."""
    return labels._replace(
        rows_N=labels.rows_N[kept_N],
        columns_N=labels.columns_N[kept_N],
        class_N=labels.class_N[kept_N],
        polygon_N=labels.polygon_N[kept_N],
    )


def card_of_map(path: str) -> Card | None:
    """Return the card of the model that made a map of this project; None where that cannot be known."""
    try:
        with rasterio.open(path) as file:
            config = json.loads(file.tags().get("RSFM_CONFIG", "{}"))
        return read_card(str(config["model"]))
    except (RasterioError, ValueError, KeyError, UserError):
        return None


def learned_area(card: Card | None, raster: Raster) -> Area | None:
    """Return the polygons that a model learnt from, on a raster; None where there are none, or they are gone."""
    learned = str(card.provenance.get("labels") or "") if card else ""
    try:
        return read_area(raster.grid, learned, "labels") if learned else None
    except UserError:  # the file is gone, holds no polygons, or lies elsewhere
        return None


def leave_out_learned(labels: Labels, source: str, card: Card | None, raster: Raster, run: Run) -> Labels:
    """Leave out labelled pixels in polygons that a model learnt from; if that would be all, keep them and say so."""
    learned = str(card.provenance.get("labels") or "") if card else ""
    if not learned:
        return labels
    if _same_file(learned, source):
        run.warning(f"The model learnt from these very labels. {FLATTERS}")
        return labels
    area = learned_area(card, raster)
    if area is None:
        return labels
    seen_N = within(labels, area)
    if not seen_N.any():
        return labels
    if seen_N.all():
        run.warning(f"All labels lie in polygons that the model learnt from. {FLATTERS}")
        return labels
    count = int(seen_N.sum())
    run.warning(
        f"{count:,} of {len(seen_N):,} labelled pixels lie in polygons that the model learnt from "
        f"('{Path(split_source(learned)[0]).name}') and were left out."
    )
    return only(labels, ~seen_N)


def _same_file(one: str, other: str) -> bool:
    first, second = (split_source(each)[0] for each in (one, other))
    return Path(first).absolute() == Path(second).absolute() and one.partition("|")[2] == other.partition("|")[2]
