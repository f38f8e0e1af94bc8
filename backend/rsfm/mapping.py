"""Maps of a whole raster: classes with confidence, and embeddings.

Shape letters: K classes or components, D features, H rows, W columns, N sampled cells.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from rsfm import __version__, model_file
from rsfm.batch_size import choose_batch
from rsfm.devices import choose_device
from rsfm.errors import Stopped, UserError
from rsfm.inference import TileNetwork, run_tiles
from rsfm.inference_config import TilingConfig
from rsfm.jobs.embed import EmbedConfig
from rsfm.jobs.segment import SegmentConfig
from rsfm.model_file import Model
from rsfm.networks import EncoderNetwork, head_network
from rsfm.outputs.classes import Classes
from rsfm.outputs.confidence import Confidence
from rsfm.outputs.embedding import Embedding
from rsfm.raster.area import Area, read_area
from rsfm.raster.background import Background, Work
from rsfm.raster.grid import Grid, Window
from rsfm.raster.polygons import polygonise
from rsfm.raster.reader import Raster, check_has_valid_pixels
from rsfm.raster.tiling import plan_tiles
from rsfm.raster.writer import RasterWriter
from rsfm.runs import Run
from rsfm.training.finetuning import as_read_by, open_for
from rsfm.unfinished import Unfinished, common_row

BATCH = 4
MAPPED = 0.95
"""Share of the work before polygons are made."""
CLASSES_FILE, CONFIDENCE_FILE = "segmentation.tif", "confidence.tif"
SAMPLED_TILES = 48
SAMPLED_CELLS = 100_000
CLASSES_NODATA, PERCENTILES = 255, (2, 98)


def segment(config: SegmentConfig, run: Run) -> dict[str, Any]:
    """Write the map of classes, its confidence and its polygons as the config asks."""
    device = choose_device(config.device, run)
    model = model_file.load(config.model)
    network = head_network(model).to(device)
    with open_for(model, config.raster) as raster:
        area = read_area(raster.grid, config.area)
        check_has_valid_pixels(raster)
        place = _Place(raster, area, config.tiling, device)
        with Unfinished(run, raster, config.model, config.model_dump_json()) as unfinished:
            counts = _map_classes(network, place, model, config, unfinished, run)
        grid = raster.grid.crop(area.window)
    names = {name.value: name.name for name in model.card.classes}
    if config.polygons:
        _polygons(config, run, names, model)
    return {
        "area_m2": {name: round(float(counts[value] * grid.pixel_area), 1) for value, name in names.items()},
    }


def _map_classes(
    network: TileNetwork, place: "_Place", model: Model, config: SegmentConfig, unfinished: Unfinished, run: Run
) -> NDArray[np.int64]:
    """Write classes and confidence, from where an earlier start ended, and count the pixels of each class."""
    grid = place.raster.grid.crop(place.area.window)
    options: dict[str, Any] = {
        "metadata": provenance(model, place.raster, config.model_dump_json(), place.device),
        "unfinished": unfinished.folder,
        "check": run.check,
    }
    counts = np.zeros(256, np.int64)
    with _reported(run.outputs / CLASSES_FILE, lambda: _report_segmentation(config, run, model)), ExitStack() as stack:
        writers = [
            stack.enter_context(
                RasterWriter(run.outputs / CLASSES_FILE, Classes, grid, colours=_palette(model), **options)
            )
        ]
        if config.confidence:
            path = run.outputs / CONFIDENCE_FILE
            writers.append(stack.enter_context(RasterWriter(path, Confidence, grid, **options)))
        row = common_row(*writers)
        for rows_CHW in writers[0].done(row):
            np.add(counts, np.bincount(rows_CHW.ravel(), minlength=256), out=counts)

        def finish(logits_KHW: NDArray[np.float32], valid_HW: NDArray[np.bool_]) -> tuple[Work, int]:
            label_HW, share_HW = classify(logits_KHW, valid_HW)
            maps: tuple[NDArray[Any], ...] = (label_HW, share_HW)

            def write() -> None:
                for writer, rows_HW in zip(writers, maps, strict=False):
                    writer.write(rows_HW[None])
                np.add(counts, np.bincount(label_HW.ravel(), minlength=256), out=counts)

            return write, label_HW.nbytes + share_HW.nbytes

        _map_rows(network, place, row, unfinished, finish, run)
    return counts


def classify(
    logits_KHW: NDArray[np.float32], valid_HW: NDArray[np.bool_]
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return the class of each pixel, 1 for the first and 255 where invalid, and its softmax, NaN where invalid."""
    label_HW = np.zeros(valid_HW.shape, np.uint8)
    best_HW = logits_KHW[0].copy()
    for index in range(1, len(logits_KHW)):  # eight times as fast as argmax on the CPU
        better_HW = logits_KHW[index] > best_HW
        label_HW[better_HW] = index
        np.maximum(best_HW, logits_KHW[index], out=best_HW)
    total_HW = np.zeros(valid_HW.shape, np.float32)
    for logits_HW in logits_KHW:
        total_HW += np.exp(logits_HW - best_HW)
    label_HW += 1
    label_HW[~valid_HW] = CLASSES_NODATA
    return label_HW, np.where(valid_HW, 1 / total_HW, np.nan).astype(np.float32)


def embed(config: EmbedConfig, run: Run) -> dict[str, Any]:
    """Write the embedding of a raster: principal components fitted on a sample of the whole area."""
    device = choose_device(config.device, run)
    model = model_file.load(config.model)
    with open_for(model, config.raster) as raster:
        area = read_area(raster.grid, config.area)
        check_has_valid_pixels(raster)
        place = _Place(raster, area, config.tiling, device)
        with Unfinished(run, raster, config.model, config.model_dump_json()) as unfinished:
            return _map_features(place, model, config, unfinished, run)


def _map_features(
    place: "_Place", model: Model, config: EmbedConfig, unfinished: Unfinished, run: Run
) -> dict[str, Any]:
    """Write the components, from where an earlier start ended."""
    raster, area, _, device = place
    plain = EncoderNetwork(model.encoder(), model.card.statistics).to(device)
    run.progress(0, "Sampling features for the principal components")
    basis = _keep_basis(unfinished, lambda: fit_components(_sample(plain, place, config, run), config.components))
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
        _reported(path, lambda: run.output("embedding", path, title, **style)),
        RasterWriter(path, Embedding, grid, len(names), names, None, metadata, unfinished.folder, run.check) as writer,
    ):

        def finish(features_KHW: NDArray[np.float32], valid_HW: NDArray[np.bool_]) -> tuple[Work, int]:
            rows_KHW = np.where(valid_HW, features_KHW, np.float32(np.nan))
            return lambda: writer.write(rows_KHW), rows_KHW.nbytes

        _map_rows(network, place, common_row(writer), unfinished, finish, run)
    return {"explained": round(basis.explained, 4), "components": len(names), "cell_m": round(grid.gsd, 3)}


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


class _Place(NamedTuple):
    """What is mapped, how it is cut, and on which device."""

    raster: Raster
    area: Area
    tiling: TilingConfig
    device: str


def _map_rows(
    network: TileNetwork,
    place: _Place,
    row: int,
    unfinished: Unfinished,
    finish: Callable[[NDArray[np.float32], NDArray[np.bool_]], tuple[Work, int]],
    run: Run,
) -> None:
    """Run a network over the rows from `row` of the result on.

    Args:
        finish: returns what is to be done with rows in another thread, and the bytes that it holds.
    """
    raster, area, tiling, device = place
    cells, window = area.window.cells(network.stride), area.window
    if row == cells.height:
        return
    top = max((cells.row + row) * network.stride, window.row)
    rest = window._replace(row=top, height=window.row + window.height - top)
    done = row / cells.height
    _compute_as_before(network, place, unfinished, run)
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


def _compute_as_before(network: TileNetwork, place: _Place, unfinished: Unfinished, run: Run) -> None:
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
def _reported(path: Path, report: Callable[[], None]) -> Iterator[None]:
    """Report a file once it is there, also when the user stops the run."""
    try:
        yield
    except Stopped:
        if path.exists():
            report()
        raise
    report()


def _keep_basis(unfinished: Unfinished, fit: Callable[[], Basis]) -> Basis:
    """Fit the components at the first start, and take the same ones at every later."""
    file = unfinished.folder / "basis.npz"
    if not file.exists():
        basis = fit()
        partial = file.with_name("basis.partial.npz")
        np.savez(partial, mean=basis.mean_D, components=basis.components_KD, ranges=basis.ranges, kept=basis.explained)
        os.replace(partial, file)
    with np.load(file) as kept:
        ranges = [(float(low), float(high)) for low, high in kept["ranges"]]
        return Basis(kept["mean"], kept["components"], ranges, float(kept["kept"]))


def _sample(network: EncoderNetwork, place: _Place, config: EmbedConfig, run: Run) -> NDArray[np.float32]:
    """Sample features from tiles spread over the area."""
    window = place.area.window
    random = np.random.default_rng(config.seed)
    side = min(config.tiling.tile_size, window.height, window.width)
    inside = None if place.area.outlines is None else place.area.inside
    parts: list[NDArray[np.float32]] = []

    def keep(features_DHW: NDArray[np.float32], valid_HW: NDArray[np.bool_]) -> None:
        parts.append(features_DHW[:, valid_HW].T)

    tiles = min(SAMPLED_TILES, max(1, window.height * window.width // side**2))
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


def _palette(model: Model) -> dict[int, tuple[int, int, int]]:
    def channels(colour: str) -> tuple[int, int, int]:
        return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)

    return {name.value: channels(name.colour) for name in model.card.classes}


def _report_segmentation(config: SegmentConfig, run: Run, model: Model) -> None:
    title = f"Classes of {Path(config.raster).stem}"
    classes = [name.model_dump() for name in model.card.classes]
    run.output("classes", run.outputs / CLASSES_FILE, title, classes=classes)
    if config.confidence:
        run.output("confidence", run.outputs / CONFIDENCE_FILE, "Confidence", minimum=0, maximum=1)


def _polygons(config: SegmentConfig, run: Run, names: dict[int, str], model: Model) -> None:
    def done(part: float) -> None:
        run.check()
        run.progress(MAPPED + (1 - MAPPED) * part, "Polygons")

    target = run.outputs / "segmentation.gpkg"
    polygonise(run.outputs / CLASSES_FILE, target, names, config.minimum_area, "class", done)
    classes = [name.model_dump() for name in model.card.classes]
    run.output("polygons", target, "Polygons of the classes", classes=classes)
