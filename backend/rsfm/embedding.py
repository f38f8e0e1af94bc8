"""Maps of what an encoder sees: its features, or their principal components.

Shape letters: K components, D features, H rows, W columns, N sampled cells.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from rsfm import model_file
from rsfm.devices import choose_device
from rsfm.errors import UserError
from rsfm.inference import run_tiles
from rsfm.inference_config import TilingConfig
from rsfm.jobs.embed import EmbedConfig
from rsfm.mapping import Place, map_rows, provenance, reported
from rsfm.model_file import Model
from rsfm.networks import EncoderNetwork
from rsfm.outputs.embedding import Embedding
from rsfm.preview import Show
from rsfm.raster.area import read_area
from rsfm.raster.background import Work
from rsfm.raster.grid import Grid, Window
from rsfm.raster.reader import Raster, check_has_valid_pixels
from rsfm.raster.writer import RasterWriter
from rsfm.runs import Run
from rsfm.training.finetuning import as_read_by, open_for
from rsfm.unfinished import Unfinished, common_row

BATCH = 4
SAMPLED_TILES = 48
SAMPLED_CELLS = 100_000
PERCENTILES = (2, 98)


def embed(config: EmbedConfig, run: Run, basis: Path | None = None) -> dict[str, Any]:
    """Write the embedding of a raster: principal components fitted on a sample of the whole area.

    Args:
        basis: folder of components that were fitted before, such as on several rasters.
    """
    device = choose_device(config.device, run)
    model = model_file.load(config.model)
    with open_for(model, config.raster) as raster:
        area = read_area(raster.grid, config.area)
        check_has_valid_pixels(raster)
        place = Place(raster, area, config.tiling, device)
        with Unfinished(run, raster, config.model, config.model_dump_json()) as unfinished:
            return _map_features(place, model, config, unfinished, run, basis)


def _map_features(
    place: Place, model: Model, config: EmbedConfig, unfinished: Unfinished, run: Run, folder: Path | None
) -> dict[str, Any]:
    """Write the components, from where an earlier start ended."""
    raster, area, _, device = place
    plain = EncoderNetwork(model.encoder(), model.card.statistics).to(device)
    run.progress(0, "Sampling features for the principal components")
    basis = keep_basis(
        folder or unfinished.folder,
        lambda: fit_components(sample_features(plain, place, config, run), config.components),
    )
    network = EncoderNetwork(
        plain.encoder, model.card.statistics, torch.from_numpy(basis.mean_D), torch.from_numpy(basis.components_KD)
    ).to(device)
    names = [f"PC{k + 1}" if config.components else f"feature {k + 1}" for k in range(network.outputs)]
    grid = raster.grid.shrink(network.stride).crop(area.window.cells(network.stride))
    metadata = provenance(model, raster, config.model_dump_json(), device)
    path = run.outputs / "embedding.tif"
    style = {"bands": [1, 2, 3][: len(names)], "ranges": basis.ranges[:3]}
    title = f"Embedding of {Path(config.raster).stem}"
    with (
        reported(path, lambda: run.output("embedding", path, title, **style)),
        RasterWriter(path, Embedding, grid, len(names), names, None, metadata, unfinished.folder, run.check) as writer,
    ):

        def finish(features_KHW: NDArray[np.float32], valid_HW: NDArray[np.bool_]) -> tuple[Work, int]:
            rows_KHW = mask(features_KHW, valid_HW)
            return lambda: writer.write(rows_KHW), rows_KHW.nbytes

        colours = min(len(names), 3)
        show = Show(writer, "embedding", title, style, lambda rows, valid: mask(rows[:colours], valid), colours)
        map_rows(network, place, common_row(writer), unfinished, finish, run, show)
    return {"explained": round(basis.explained, 4), "components": len(names), "cell_m": round(grid.gsd, 3)}


def mask(values_KHW: NDArray[np.float32], valid_HW: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return values that are NaN where invalid."""
    return np.where(valid_HW, values_KHW, np.float32(np.nan))


class Basis(NamedTuple):
    """Principal components: values_NK = (features_ND - mean_D) @ components_KD.T, and what they show.

    Attributes:
        ranges: the 2nd and 98th percentile of each component, for the colours.
        explained: share of the variance that the components keep.
    """

    mean_D: NDArray[np.float32]
    components_KD: NDArray[np.float32]
    ranges: list[tuple[float, float]]
    explained: float


def fit_components(sample_ND: NDArray[np.float32], components: int) -> Basis:
    """Fit principal components, of fixed sign: the largest loading is positive; 0 components keep all features."""
    width = sample_ND.shape[1]
    mean_D = sample_ND.mean(axis=0, dtype=np.float64)
    values_D, vectors_DD = np.linalg.eigh(np.cov(sample_ND, rowvar=False, dtype=np.float64).reshape(width, width))
    keep = min(components, width)
    components_KD = vectors_DD[:, ::-1].T[:keep]
    signs_K = np.sign(components_KD[np.arange(keep), np.abs(components_KD).argmax(axis=1)])
    components_KD = components_KD * signs_K[:, None]
    explained = float(values_D[::-1][:keep].sum() / max(values_D.sum(), 1e-12))
    if components == 0:
        mean_D, components_KD, explained = np.zeros(width), np.eye(width), 1.0
    projected_NK = (sample_ND - mean_D) @ components_KD.T
    low, high = np.percentile(projected_NK, PERCENTILES, axis=0)
    ranges = [(float(a), float(b)) for a, b in zip(low, high, strict=True)]
    return Basis(mean_D.astype(np.float32), components_KD.astype(np.float32), ranges, explained)


def feature_strips(
    model_path: str,
    raster: Raster,
    window: Window,
    tiling: TilingConfig,
    device: str,
    run: Run,
    finish: Callable[[NDArray[np.float32], NDArray[np.bool_]], None],
) -> tuple[Grid, int]:
    """Hand the features of a model's encoder over in strips, top to bottom; returns their grid and number."""
    model = model_file.load(model_path)
    raster = as_read_by(model, raster)
    network = EncoderNetwork(model.encoder(), model.card.statistics).to(device)
    run_tiles(network, raster, window, tiling, device, BATCH, finish, run.check, lambda _: None)
    return raster.grid.shrink(network.stride).crop(window.cells(network.stride)), network.outputs


def keep_basis(folder: Path, fit: Callable[[], Basis]) -> Basis:
    """Fit the components at the first start, and take the same ones at every later."""
    file = folder / "basis.npz"
    if not file.exists():
        basis = fit()
        partial = file.with_name("basis.partial.npz")
        np.savez(partial, mean=basis.mean_D, components=basis.components_KD, ranges=basis.ranges, kept=basis.explained)
        os.replace(partial, file)
    with np.load(file) as kept:
        ranges = [(float(low), float(high)) for low, high in kept["ranges"]]
        return Basis(kept["mean"], kept["components"], ranges, float(kept["kept"]))


def sample_features(
    network: EncoderNetwork, place: Place, config: EmbedConfig, run: Run, tiles: int = SAMPLED_TILES
) -> NDArray[np.float32]:
    """Sample features from so many tiles, or fewer, spread over the area."""
    window = place.area.window
    random = np.random.default_rng(config.seed)
    side = min(config.tiling.tile_size, window.height, window.width)
    inside = None if place.area.outlines is None else place.area.inside
    parts: list[NDArray[np.float32]] = []

    def keep(features_DHW: NDArray[np.float32], valid_HW: NDArray[np.bool_]) -> None:
        parts.append(features_DHW[:, valid_HW].T)

    tiles = min(tiles, max(1, window.height * window.width // side**2))
    for _ in range(tiles):
        run.check()
        row = window.row + int(random.integers(window.height - side + 1))
        column = window.column + int(random.integers(window.width - side + 1))
        at = Window(row, column, side, side)
        ignore = lambda _: None  # noqa: E731
        run_tiles(network, place.raster, at, config.tiling, place.device, BATCH, keep, run.check, ignore, inside)
    sample_ND = np.concatenate(parts)
    if len(sample_ND) < 2:
        raise UserError("The area has hardly a valid pixel. Choose a larger one under 'Area'.", "area")
    return sample_ND[random.permutation(len(sample_ND))[:SAMPLED_CELLS]]
