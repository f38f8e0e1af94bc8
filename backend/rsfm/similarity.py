"""Where a raster looks like places that were clicked: the stored features of all patches times those of the places.

Shape letters: D features, H rows, W columns of patches, N places.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import shapely
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.windows import Window as FileWindow

from rsfm import __version__
from rsfm.embedding_layers import INDEX_TAG
from rsfm.errors import UserError
from rsfm.jobs.find_similar import FindSimilarConfig
from rsfm.outputs.similarity import Similarity
from rsfm.raster.area import Area, read_area
from rsfm.raster.grid import Grid, Window
from rsfm.raster.label_file import Parameters, read_points
from rsfm.raster.reader import open_raster
from rsfm.raster.writer import RasterWriter
from rsfm.runs import Run

PIECE_BYTES = 2**26
"""Features read at once."""
BINS = 4096
SHOWN = (2, 99.9)
"""Percentiles between which the map is coloured."""
LEAST_LENGTH = 1e-3


def find_similar(config: FindSimilarConfig, run: Run) -> dict[str, Any]:
    """Write the map of likeness."""
    run.device("cpu")
    _check_index(config.index)
    with open_raster(config.index, "index") as index, rasterio.open(config.index) as file:
        area = read_area(index.grid, config.area)
        like_N2 = _read_places(config.like, config.like_layer, index.grid, "like")
        unlike_N2 = _read_places(config.unlike, config.unlike_layer, index.grid, "unlike")
        like_ND, unlike_ND = (_features_at(file, index.grid, places_N2, run) for places_N2 in (like_N2, unlike_N2))
        query_D = make_query(like_ND, unlike_ND)
        grid, path = index.grid.crop(area.window), run.outputs / "similarity.tif"
        metadata = {
            "RSFM_VERSION": __version__,
            "RSFM_SOURCE": index.name,
            "RSFM_CONFIG": config.model_dump_json(),
            "RSFM_MODEL": file.tags().get("RSFM_MODEL", ""),
        }
        counts = np.zeros(BINS, np.int64)
        with RasterWriter(path, Similarity, grid, 1, ["Similarity"], None, metadata, check=run.check) as writer:
            for cosine_HW in _multiply(file, query_D, area, run):
                counts += np.histogram(cosine_HW, BINS, (-1, 1))[0]
                writer.write(cosine_HW[None])
    low, high = _percentiles(counts)
    run.output("similarity", path, "Similarity to the places", minimum=low, maximum=max(high, low + 1e-3))
    return {
        "like": len(like_ND),
        "unlike": len(unlike_ND),
        "lowest_shown": round(low, 3),
        "highest_shown": round(high, 3),
    }


def make_query(like_ND: NDArray[np.float32], unlike_ND: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what features are compared to: the mean of the places, less the mean of the others, of length 1.

    Raises:
        UserError: there is no place, or nothing is left of them.
    """
    if not len(like_ND):
        raise UserError(
            "No place lies on a patch of the index. Click one where the index has features, under 'Like'.", "like"
        )
    query_D = like_ND.mean(axis=0)
    if len(unlike_ND):
        query_D = query_D - unlike_ND.mean(axis=0)
    length = float(np.linalg.norm(query_D))
    if length < LEAST_LENGTH:
        raise UserError(
            "To the encoder, the places you look for and those you do not are the same. Choose others under 'Unlike'.",
            "unlike",
        )
    return np.asarray(query_D / length, np.float32)


def _check_index(path: str) -> None:
    """Refuse what is no index."""
    try:
        with rasterio.open(path) as file:
            if INDEX_TAG in file.tags():
                return
    except rasterio.errors.RasterioError:
        pass
    raise UserError(
        f"'{Path(path).name}' is no search index. Make one by 'Embed a Raster' with 'Index for search' ticked.", "index"
    )


def _read_places(text: str | None, layer: str | None, grid: Grid, field: str) -> NDArray[np.float64]:
    """Return places_N2, column and row in patches of the index."""
    places = _parse(text, field) if text else []
    if layer:
        points = read_points(layer, grid.crs or CRS(), Parameters(labels=f"{field}_layer"))
        places += [(float(x), float(y)) for x, y in shapely.get_coordinates(points)]
    return np.array([~grid.transform @ place for place in places], np.float64).reshape(-1, 2)


def _parse(text: str, field: str) -> list[tuple[float, float]]:
    try:
        places = [tuple(float(part) for part in pair.split(",")) for pair in text.split(";") if pair.strip()]
    except ValueError:
        places = [()]
    if any(len(place) != 2 or not np.isfinite(place).all() for place in places):
        raise UserError(
            f"The places '{text}' were not understood. Give x,y in the CRS of the index, several with semicolons "
            "between, or click them on the map.",
            field,
        )
    return [(x, y) for x, y in places]


def _features_at(file: Any, grid: Grid, places_N2: NDArray[np.float64], run: Run) -> NDArray[np.float32]:
    """Return features_ND of length 1, between the centres of the four patches around; places without are left out."""
    found = []
    for column, row in places_N2:
        feature_D = _feature_at(file, grid, column, row)
        if feature_D is not None:
            found.append(feature_D / np.linalg.norm(feature_D))
    if len(found) < len(places_N2):
        run.warning(f"{len(places_N2) - len(found)} of {len(places_N2)} places lie where the index has no features.")
    return np.array(found, np.float32).reshape(-1, file.count)


def _feature_at(file: Any, grid: Grid, column: float, row: float) -> NDArray[np.float64] | None:
    """Return the feature of a place; None where its own patch has none."""
    if not (0 <= column < grid.width and 0 <= row < grid.height):
        return None
    if np.isnan(_read(file, Window(int(row), int(column), 1, 1))[0, 0, 0]):
        return None
    top, left = int(np.floor(row - 0.5)), int(np.floor(column - 0.5))
    down, right = row - 0.5 - top, column - 0.5 - left
    total_D = np.zeros(file.count)
    for i, across in ((top, 1 - down), (top + 1, down)):
        for j, along in ((left, 1 - right), (left + 1, right)):
            if 0 <= i < grid.height and 0 <= j < grid.width:
                total_D += across * along * np.nan_to_num(_read(file, Window(i, j, 1, 1))[:, 0, 0])
    return total_D if total_D.any() else None


def _multiply(file: Any, query_D: NDArray[np.float32], area: Area, run: Run) -> Iterator[NDArray[np.float32]]:
    """Return the cosine of each patch, NaN where there is none, in strips from top to bottom."""
    window, block = area.window, file.block_shapes[0][0]
    width = max(PIECE_BYTES // (4 * block * file.count) // block, 1) * block
    bottom, right = window.row + window.height, window.column + window.width
    row = window.row
    while row < bottom:
        run.check()
        run.progress((row - window.row) / window.height, "Comparing")
        height = min((row // block + 1) * block, bottom) - row
        parts, column = [], window.column
        while column < right:
            end = min((column // width + 1) * width, right)
            parts.append(_cosines(file, query_D, area, Window(row, column, height, end - column)))
            column = end
        yield np.concatenate(parts, axis=1)
        row += height


def _cosines(file: Any, query_D: NDArray[np.float32], area: Area, window: Window) -> NDArray[np.float32]:
    features_DHW = _read(file, window)
    cosine_HW = (query_D @ features_DHW.reshape(len(query_D), -1)).reshape(window.height, window.width)
    cosine_HW[np.isnan(features_DHW[0]) | ~area.inside(window)] = np.nan
    return cosine_HW


def _read(file: Any, window: Window) -> NDArray[np.float32]:
    return np.asarray(file.read(window=FileWindow(window.column, window.row, window.width, window.height)), np.float32)


def _percentiles(counts: NDArray[np.int64]) -> tuple[float, float]:
    """Return the percentiles shown, from counts of equal steps between -1 and 1."""
    shares = np.cumsum(counts) / max(counts.sum(), 1)
    low, high = (float(np.searchsorted(shares, percent / 100)) for percent in SHOWN)
    return -1 + 2 * low / BINS, -1 + 2 * (high + 1) / BINS
