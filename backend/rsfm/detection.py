"""Maps of objects: a box for each, on a raster of any size.

Shape letters: N boxes.
"""

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray

from rsfm import model_file
from rsfm.box_inference import BoxNetwork, run_boxes
from rsfm.detector import DetectorNetwork, load_detector
from rsfm.devices import choose_device
from rsfm.errors import Stopped, UserError
from rsfm.jobs.detect_objects import DetectObjectsConfig
from rsfm.mapping import MAPPED, compute_as_before
from rsfm.model_file import Card, Model
from rsfm.outputs.boxes import Boxes as BoxesKind
from rsfm.raster.area import Area, read_area
from rsfm.raster.box_rows import BoxRows
from rsfm.raster.boxes import Boxes, centres, polygons
from rsfm.raster.grid import Grid, Window
from rsfm.raster.polygons import PolygonWriter
from rsfm.raster.reader import Raster, check_has_valid_pixels
from rsfm.raster.seams import ObjectTiles, plan_object_tiles, settle
from rsfm.raster.strips import lay_out
from rsfm.runs import Run
from rsfm.training.finetuning import open_for
from rsfm.unfinished import Unfinished

FILE = "objects.gpkg"
USUAL_SIDE = 512
LARGER = 1.25
"""The largest object looked for, as a multiple of the largest one that was taught."""
SMALLEST = 2
"""Pixels of the largest object; what is smaller is no object but a pixel."""
OTHER_GSD = 1.25
"""Pixel sizes that differ by more are warned of."""
LABEL_SIDE = 0.01
"""Scores are written next to the boxes when an object is this many metres large on the screen."""


class Search(NamedTuple):
    """What is searched, and with what.

    Attributes:
        overlap: boxes of one class that share more are one object.
    """

    network: BoxNetwork
    raster: Raster
    area: Area
    tiles: ObjectTiles
    overlap: float
    device: str


def detect(config: DetectObjectsConfig, run: Run) -> dict[str, Any]:
    """Write a box for each object that the model finds; a stopped search writes those of the rows it finished."""
    device = choose_device(config.device, run)
    model = model_file.load(config.model)
    detector = load_detector(model)
    detector.look_for(config.least_score, config.overlap)
    network = DetectorNetwork(detector, model.card.statistics)
    with open_for(model, config.raster) as raster:
        area = read_area(raster.grid, config.area)
        check_has_valid_pixels(raster)
        _warn_of_gsd(model, raster, run)
        largest = largest_pixels(config, model.card, raster.grid)
        tiles = plan_object_tiles(_side(config, model), largest, network.multiple)
        search = Search(network, raster, area, tiles, config.overlap, device)
        with Unfinished(run, raster, config.model, config.model_dump_json()) as unfinished:
            found = search_rows(search, unfinished, run, model.card)
    return found


def search_rows(search: Search, unfinished: Unfinished, run: Run, card: Card) -> dict[str, Any]:
    """Find the objects of all rows of tiles, from where an earlier start ended, and write them."""
    path = run.outputs / FILE
    if "result" not in unfinished.kept or not path.exists():
        with BoxRows(unfinished.folder) as rows:
            try:
                find_rows(search, rows, unfinished, run)
            except Stopped:
                if rows.count:
                    _report(_write(path, search, rows, card), path, search, card, run)
                raise
            result = _write(path, search, rows, card)
        unfinished.keep(result=result)
        rows.remove()
    result = unfinished.kept["result"]
    _report(result, path, search, card, run)
    return {name: value for name, value in result.items() if name != "median_m"}


def find_rows(search: Search, rows: BoxRows, unfinished: Unfinished, run: Run) -> None:
    """Add the boxes of the rows of tiles that are not done."""
    network, raster, area, tiles, _, device = search
    window = _grown(area.window, tiles.reach).intersection(raster.grid.window)
    layout = lay_out(raster.grid, window, tiles.plan)
    done = rows.count / len(layout.rows)
    if done == 1:
        return
    compute_as_before(network.to(device).eval(), raster.bands, tiles.plan.side, device, unfinished, run)
    rest = layout._replace(rows=layout.rows[rows.count :])

    def tell(part: float) -> None:
        share = done + (1 - done) * part
        run.progress(share * MAPPED, f"{share:.0%} is searched")

    inside = None if area.outlines is None else _within_reach(area.outlines, window, tiles.reach).inside
    batch = int(unfinished.kept["batch"])
    run_boxes(network, raster, rest, tiles, device, batch, rows.add, run.check, tell, inside)


def in_area(boxes_N: Boxes, area: Area) -> NDArray[np.bool_]:
    """Tell which boxes have their centre in an area."""
    row_N, column_N = centres(boxes_N)
    window = area.window
    inside_N = (row_N >= window.row) & (row_N < window.row + window.height)
    inside_N &= (column_N >= window.column) & (column_N < window.column + window.width)
    if area.outlines is not None and len(boxes_N):
        hits, _ = area.outlines.query(shapely.points(column_N, row_N), predicate="intersects")
        within_N = np.zeros(len(boxes_N), bool)
        within_N[hits] = True
        inside_N &= within_N
    return inside_N


def largest_pixels(config: DetectObjectsConfig, card: Card, grid: Grid) -> int:
    """Return the longest side of an object in pixels.

    Raises:
        UserError: it is hardly a pixel.
    """
    metres = config.largest or LARGER * float((card.head or {})["largest_m"])
    pixels = math.ceil(metres / min(grid.pixel_sides))
    if pixels < SMALLEST:
        raise UserError(
            f"The largest object, {metres:.3g} m, is smaller than {SMALLEST} pixels of this raster "
            f"({grid.gsd:.3g} m each). Enter a larger one under 'Largest object', or choose a finer raster.",
            "largest",
        )
    return pixels


def _side(config: DetectObjectsConfig, model: Model) -> int:
    """Return the side of tiles: what was asked for, else the windows a transformer was taught with, else the usual."""
    return config.tile_size or (USUAL_SIDE if model.encoder().margin is not None else model.card.window)


def _write(path: Path, search: Search, rows: BoxRows, card: Card) -> dict[str, Any]:
    """Write the boxes that stay, row of tiles after row of tiles, and return what was found in a few numbers."""
    grid, names = search.raster.grid, {each.value: each.name for each in card.classes}
    counts = dict.fromkeys(names.values(), 0)
    sizes: list[NDArray[np.float64]] = [np.empty(0)]
    with PolygonWriter(path, grid, BoxesKind.fields) as writer:
        for boxes_N, first, end in rows.with_neighbours():
            kept_N = settle(boxes_N, search.overlap)[first:end]
            own_N = boxes_N[first:end][kept_N]
            own_N = own_N[in_area(own_N, search.area)]
            own_N = own_N[np.lexsort([own_N["left"], own_N["top"]])]
            sizes.append(_add(writer, own_N, grid, names))
            for value, name in names.items():
                counts[name] += int((own_N["value"] == value).sum())
        total = writer.count
    median = float(np.median(np.concatenate(sizes))) if total else 0.0
    return {"objects": total, "classes": counts, "median_m": median}


def _add(writer: PolygonWriter, boxes_N: Boxes, grid: Grid, names: dict[int, str]) -> NDArray[np.float64]:
    """Write boxes and return their longest sides in metres."""
    pixel_height, pixel_width = grid.pixel_sides
    row_N, column_N = centres(boxes_N)
    width_N = (boxes_N["right"] - boxes_N["left"]) * pixel_width
    height_N = (boxes_N["bottom"] - boxes_N["top"]) * pixel_height
    for index, polygon in enumerate(polygons(boxes_N)):
        x, y = grid.transform @ (float(column_N[index]), float(row_N[index]))
        value, score = int(boxes_N["value"][index]), round(float(boxes_N["score"][index]), 4)
        size = round(float(width_N[index]), 3), round(float(height_N[index]), 3)
        writer.add(polygon, value, names.get(value, str(value)), score, *size, x, y)
    return np.asarray(np.maximum(width_N, height_N))


def _report(result: dict[str, Any], path: Path, search: Search, card: Card, run: Run) -> None:
    classes = [each.model_dump() for each in card.classes]
    title = f"Objects of {Path(search.raster.name).stem}"
    scale = round((result["median_m"] or search.tiles.largest * search.raster.grid.gsd) / LABEL_SIDE)
    run.output("boxes", path, title, classes=classes, label_scale=scale)


def _warn_of_gsd(model: Model, raster: Raster, run: Run) -> None:
    ratio = raster.grid.gsd / model.card.gsd if model.card.gsd > 0 else 1.0
    if max(ratio, 1 / ratio) > OTHER_GSD:
        run.warning(
            f"The pixels of '{raster.name}' are {raster.grid.gsd:.3g} m and those the model was taught on "
            f"{model.card.gsd:.3g} m: objects look {'smaller' if ratio > 1 else 'larger'} to it and may be missed."
        )


def _grown(window: Window, reach: int) -> Window:
    return Window(window.row - reach, window.column - reach, window.height + 2 * reach, window.width + 2 * reach)


def _within_reach(outlines: shapely.STRtree, window: Window, reach: int) -> Area:
    """Return what is asked for with all that can decide about it."""
    return Area(window, shapely.STRtree(shapely.buffer(outlines.geometries, 1.5 * reach, quad_segs=2)))
