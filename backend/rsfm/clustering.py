"""Maps of groups that look alike to an encoder, or in the bands of a raster, found without labels.

Shape letters: K groups, D features, H rows, W columns.
"""

from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray

from rsfm import __version__, model_file
from rsfm.centres import SUFFIX, Centres, find_centres, fit_centres, load_centres, save_centres
from rsfm.devices import choose_device
from rsfm.distinct_colours import distinct_colours
from rsfm.feature_sample import sample_features, whole
from rsfm.inference import TileNetwork
from rsfm.jobs.cluster import ClusterConfig
from rsfm.mapping import MAPPED, Place, map_rows, provenance, reported
from rsfm.model_file import ClassName, Model
from rsfm.networks import BandNetwork, EncoderNetwork
from rsfm.outputs.classes import Classes
from rsfm.raster.area import read_area
from rsfm.raster.background import Work
from rsfm.raster.polygons import Outlines, TooManyPolygons, polygonise
from rsfm.raster.reader import Raster, check_has_valid_pixels, open_raster
from rsfm.raster.writer import RasterWriter
from rsfm.runs import Run
from rsfm.training.finetuning import open_for
from rsfm.unfinished import Unfinished, common_row

FILE = "clusters.tif"


def cluster(config: ClusterConfig, run: Run) -> dict[str, Any]:
    """Write the map of groups, and their polygons if asked for."""
    device = choose_device(config.device, run)
    model = model_file.load(config.model) if config.model else None
    with open_for(model, config.raster) if model else open_raster(config.raster) as raster:
        place = Place(raster, read_area(raster.grid, config.area), config.tiling, device)
        check_has_valid_pixels(raster)
        with Unfinished(run, raster, config.model, config.model_dump_json()) as unfinished:
            centres = _keep_centres(place, model, config, unfinished, run)
            save_centres(centres, run.outputs / f"clusters{SUFFIX}")
            network = _network(place, model, config.grid == "pixel", centres)
            classes = _classes(len(centres.centres_KD))
            counts = _map_groups(network, place, model, config, centres, classes, unfinished, run)
        cell_area = raster.grid.shrink(network.stride).pixel_area
    run.output("centres", run.outputs / f"clusters{SUFFIX}", "Centres of the groups")
    if config.polygons:
        _polygons(config, run, classes)
    areas = {each.name: round(float(counts[each.value] * cell_area), 1) for each in classes}
    return {"groups": len(classes), "area_m2": areas}


def _map_groups(
    network: TileNetwork,
    place: Place,
    model: Model | None,
    config: ClusterConfig,
    centres: Centres,
    classes: list[ClassName],
    unfinished: Unfinished,
    run: Run,
) -> NDArray[np.int64]:
    """Write the groups, from where an earlier start ended, and count the cells of each."""
    grid = place.raster.grid.shrink(network.stride).crop(place.area.window.cells(network.stride))
    path, counts = run.outputs / FILE, np.zeros(256, np.int64)
    title, said = f"Groups of {Path(config.raster).stem}", [each.model_dump() for each in classes]
    with (
        reported(path, lambda: run.output("classes", path, title, classes=said)),
        RasterWriter(
            path,
            Classes,
            grid,
            colours={each.value: _channels(each.colour) for each in classes},
            metadata=_metadata(place, model, config, classes),
            unfinished=unfinished.folder,
            check=run.check,
        ) as writer,
    ):
        row = common_row(writer)
        for rows_1HW in writer.done(row):
            np.add(counts, np.bincount(rows_1HW.ravel(), minlength=256), out=counts)

        def finish(products_KHW: NDArray[np.float32], valid_HW: NDArray[np.bool_]) -> tuple[Work, int]:
            group_HW = centres.nearest(products_KHW)
            group_HW[~valid_HW] = Classes.nodata

            def write() -> None:
                writer.write(group_HW[None])
                np.add(counts, np.bincount(group_HW.ravel(), minlength=256), out=counts)

            return write, group_HW.nbytes

        map_rows(network, place, row, unfinished, finish, run)
    return counts


def _keep_centres(
    place: Place, model: Model | None, config: ClusterConfig, unfinished: Unfinished, run: Run
) -> Centres:
    """Find the centres at the first start, and take the same ones at every later."""
    file = unfinished.folder / f"clusters{SUFFIX}"
    if not file.exists():
        plain = _network(place, model, dense=False)
        if config.same_as:
            centres = find_centres(config.same_as, plain.outputs, unfinished.model, "same_as")
        else:
            run.progress(0, "Sampling features to find groups")
            sample_ND = sample_features(plain, whole(place), config.seed, run.check)
            centres = fit_centres(sample_ND, config.clusters, config.seed, unfinished.model)
        save_centres(centres, file)
    return load_centres(file)


def _network(place: Place, model: Model | None, dense: bool, centres: Centres | None = None) -> TileNetwork:
    """Make the network whose outputs are the features, or their products with the centres."""
    mean_D = None if centres is None else torch.from_numpy(centres.mean_D)
    centres_KD = None if centres is None else torch.from_numpy(centres.centres_KD)
    if model is None:
        return BandNetwork(_scaling(place.raster), mean_D, centres_KD).to(place.device)
    return EncoderNetwork(model.encoder(), model.card.statistics, mean_D, centres_KD, dense).to(place.device)


def _scaling(raster: Raster) -> list[tuple[float, float]]:
    """Read by which scale and offset the numbers of each band become values."""
    with rasterio.open(raster.path) as file:
        return [(file.scales[number - 1], file.offsets[number - 1]) for number in raster.numbers]


def _classes(count: int) -> list[ClassName]:
    return [
        ClassName(value=index, name=f"Group {index}", colour=colour)
        for index, colour in enumerate(distinct_colours(count), start=1)
    ]


def _metadata(place: Place, model: Model | None, config: ClusterConfig, classes: list[ClassName]) -> dict[str, str]:
    own = {
        "RSFM_VERSION": __version__,
        "RSFM_SOURCE": place.raster.name,
        "RSFM_CONFIG": config.model_dump_json(),
        "RSFM_DEVICE": place.device,
    }
    found = own if model is None else provenance(model, place.raster, config.model_dump_json(), place.device)
    return found | {"RSFM_CLASSES": "; ".join(f"{each.value} {each.name}" for each in classes)}


def _channels(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def _polygons(config: ClusterConfig, run: Run, classes: list[ClassName]) -> None:
    def done(part: float) -> None:
        run.check()
        run.progress(MAPPED + (1 - MAPPED) * part, "Polygons")

    target = run.outputs / "clusters.gpkg"
    names = {each.value: each.name for each in classes}
    try:
        polygonise(run.outputs / FILE, target, names, Outlines(minimum_area=config.minimum_area), done=done)
    except TooManyPolygons as error:
        run.warning(f"No polygons were made. {error}")
        return
    said = [each.model_dump() for each in classes]
    run.output("polygons", target, "Polygons of the groups", classes=said)
