"""Maps of what an encoder sees: its features or their principal components, a picture of them, an index for search.

Shape letters: K components, D features, H rows, W columns.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rsfm import model_file
from rsfm.components import SUFFIX, Basis, find_basis, fit_components, load_basis, save_basis
from rsfm.devices import choose_device
from rsfm.embedding_layers import Layer, embedding_coding, embedding_layer, index_layer, picture_layer
from rsfm.errors import UserError
from rsfm.feature_sample import CELLS, sample_features, whole
from rsfm.inference import run_tiles, usual_batch
from rsfm.inference_config import TilingConfig
from rsfm.jobs.embed import EmbedConfig
from rsfm.mapping import Place, map_rows, provenance, reported
from rsfm.model_file import Model
from rsfm.networks import EncoderNetwork
from rsfm.preview import Show
from rsfm.raster.area import Area, read_area
from rsfm.raster.background import Work
from rsfm.raster.grid import Grid, Window
from rsfm.raster.reader import Raster, check_has_valid_pixels, open_raster
from rsfm.raster.writer import RasterWriter
from rsfm.runs import Run
from rsfm.training.finetuning import as_read_by, open_for
from rsfm.unfinished import Unfinished, common_row


class Task(NamedTuple):
    """What all parts of a run share."""

    config: EmbedConfig
    model: Model
    basis: Basis
    unfinished: Unfinished
    run: Run


def embed(config: EmbedConfig, run: Run) -> dict[str, Any]:
    """Write the layers of a raster, or of two in the same colours."""
    device = choose_device(config.device, run)
    model = model_file.load(config.model)
    with ExitStack() as stack:
        raster = stack.enter_context(open_for(model, config.raster))
        places = [Place(raster, read_area(raster.grid, config.area), config.tiling, device)]
        if config.second:
            second = stack.enter_context(_open_second(model, config.second))
            places.append(places[0]._replace(raster=second, area=_area_of_second(config, raster, second)))
        for place in places:
            check_has_valid_pixels(place.raster)
        text, others = config.model_dump_json(), [place.raster for place in places[1:]]
        unfinished = stack.enter_context(Unfinished(run, raster, config.model, text, *others))
        basis = _keep_basis(unfinished, lambda: _fit(model, places, config, unfinished.model, run))
        save_basis(basis, run.outputs / f"embedding{SUFFIX}")
        task = Task(config, model, basis, unfinished, run)
        cut = sum([_map(task, place, index, len(places)) for index, place in enumerate(places)])
    run.output("components", run.outputs / f"embedding{SUFFIX}", "Components and their stretch")
    if cut:
        run.warning(
            f"{cut:,} values lie beyond what 8 bits hold and were cut. Choose floats under 'Storage' to keep them."
        )
    stride = 1 if config.grid == "pixel" else model.encoder().stride
    cell_m = round(places[0].raster.grid.shrink(stride).gsd, 3)
    return {"explained": round(basis.explained, 4), "components": basis.outputs, "cell_m": cell_m}


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
    run_tiles(network, raster, window, tiling, device, usual_batch(network, tiling), finish, run.check, lambda _: None)
    return raster.grid.shrink(network.stride).crop(window.cells(network.stride)), network.outputs


def _map(task: Task, place: Place, index: int, count: int) -> int:
    """Write the layers of one raster, and return how many values were cut.

    The encoder runs once, and once more where the index needs patches and the map pixels.
    """
    config = task.config
    apart = config.index and config.grid == "pixel"
    passes = [(True, config.index and not apart)] + ([(False, True)] if apart else [])
    total = count * len(passes)
    cut = 0
    for number, (maps, indexes) in enumerate(passes, start=index * len(passes)):
        cut += _map_once(task, place, index, maps, indexes, (number / total, (number + 1) / total))
    return cut


def _map_once(task: Task, place: Place, index: int, maps: bool, indexes: bool, part: tuple[float, float]) -> int:
    """Run the encoder over a raster once, from where an earlier start ended, and count the values that were cut."""
    coding = embedding_coding(task.basis, task.config.storage) if maps else None
    layers = [] if coding is None else [embedding_layer(task.basis, coding)]
    layers += [picture_layer(task.basis)] if maps and task.config.picture else []
    layers += [index_layer(len(task.basis.mean_D), task.unfinished.model)] if indexes else []
    network = _network(task, maps, indexes, place.device)
    with ExitStack() as stack:
        writers = [stack.enter_context(_writing(task, place, network.stride, layer, index)) for layer in layers]
        row = common_row(*writers)
        cut = np.zeros(1, np.int64)
        if coding is not None and coding.scaling:
            for codes_KHW in writers[0].done(row):
                cut += coding.count_cut(codes_KHW)

        def finish(rows_KHW: NDArray[np.float32], valid_HW: NDArray[np.bool_]) -> tuple[Work, int]:
            made = [layer.make(rows_KHW, valid_HW) for layer in layers]

            def write() -> None:
                for writer, rows in zip(writers, made, strict=True):
                    writer.write(rows)
                if coding is not None:
                    np.add(cut, coding.count_cut(made[0]), out=cut)

            return write, sum(rows.nbytes for rows in made)

        map_rows(network, place, row, task.unfinished, finish, task.run, _shown(layers[0], writers[0]), part)
    return int(cut[0])


def _shown(layer: Layer, writer: RasterWriter) -> Show | None:
    """Say how the first layer is shown while it grows; an index is nothing to look at, nor are codes of 8 bits."""
    if layer.kind.name != "embedding" or layer.scaling:
        return None
    colours = min(len(layer.names), 3)
    return Show(
        writer, layer.kind.name, layer.title, dict(layer.style), lambda *rows: layer.make(*rows)[:colours], colours
    )


@contextmanager
def _writing(task: Task, place: Place, stride: int, layer: Layer, index: int) -> Iterator[RasterWriter]:
    """Write a layer, and report it once it is there."""
    path = task.run.outputs / f"{layer.stem}{'_2' if index else ''}.tif"
    grid = place.raster.grid.shrink(stride).crop(place.area.window.cells(stride))
    metadata = {**provenance(task.model, place.raster, task.config.model_dump_json(), place.device), **layer.tags}
    title = f"{layer.title} of {Path(place.raster.path).stem}"
    rows, check, names = task.unfinished.folder, task.run.check, layer.names
    with (
        reported(path, lambda: task.run.output(layer.kind.name, path, title, **layer.style)),
        RasterWriter(path, layer.kind, grid, len(names), names, None, metadata, rows, check, layer.scaling) as writer,
    ):
        yield writer


def _network(task: Task, maps: bool, indexes: bool, device: str) -> EncoderNetwork:
    """Make the network whose outputs are the components, the features, or both in this order."""
    basis, statistics = task.basis, task.model.card.statistics
    mean_D: Tensor | None = torch.from_numpy(basis.mean_D)
    components_KD: Tensor | None = torch.from_numpy(basis.components_KD)
    if not maps or basis.keeps_features:
        mean_D = components_KD = None
    dense = maps and task.config.grid == "pixel"
    return EncoderNetwork(task.model.encoder(), statistics, mean_D, components_KD, dense, indexes).to(device)


def _keep_basis(unfinished: Unfinished, make: Callable[[], Basis]) -> Basis:
    """Find the components at the first start, and take the same ones at every later."""
    file = unfinished.folder / f"embedding{SUFFIX}"
    if not file.exists():
        save_basis(make(), file)
    return load_basis(file)


def _fit(model: Model, places: list[Place], config: EmbedConfig, digest: str, run: Run) -> Basis:
    """Fit the components to a sample of all rasters alike, or take those of an earlier embedding."""
    if config.same_as:
        return find_basis(config.same_as, digest, "same_as")
    run.progress(0, "Sampling features for the principal components")
    plain = EncoderNetwork(model.encoder(), model.card.statistics).to(places[0].device)
    cells = CELLS // len(places)
    samples = [sample_features(plain, whole(place), config.seed, run.check, cells) for place in places]
    return fit_components(np.concatenate(samples), config.components, digest)


def _open_second(model: Model, path: str) -> Raster:
    """Open the second raster; what is wrong with it is marked there."""
    raster = open_raster(path, "second")
    try:
        return as_read_by(model, raster)
    except UserError as error:
        raster.close()
        raise UserError(str(error), "second") from error


def _area_of_second(config: EmbedConfig, raster: Raster, second: Raster) -> Area:
    """Find the area in the second raster.

    Raises:
        UserError: it has another CRS, in which a rectangle means another place.
    """
    is_text = config.area is not None and not Path(config.area.split("|")[0]).exists()
    if is_text and not str(config.area).upper().startswith("SRID=") and raster.grid.crs != second.grid.crs:
        raise UserError(
            f"'{second.name}' has another CRS than '{raster.name}', in which the numbers of the area mean another "
            "place. Give the area as a layer of polygons, or leave it empty.",
            "area",
        )
    return read_area(second.grid, config.area)
