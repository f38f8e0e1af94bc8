"""Pretraining, from rasters to a model file."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from rsfm import methods, model_file, registry
from rsfm.blocks.normalisation import Normalisation
from rsfm.devices import choose_device, precision
from rsfm.errors import Stopped
from rsfm.jobs.pretrain import PretrainConfig
from rsfm.method import Method, Sample
from rsfm.model_file import Card, build_encoder
from rsfm.raster.collection import is_collection, load
from rsfm.raster.collection_statistics import collection_statistics
from rsfm.raster.footprint import footprint
from rsfm.raster.grid import Window, parse_area
from rsfm.raster.reader import Raster, open_raster
from rsfm.raster.sampler import WindowSampler
from rsfm.raster.statistics import Statistics, band_statistics
from rsfm.raster.statistics_cache import cache_path
from rsfm.runs import Run
from rsfm.training.checkpoint import Position
from rsfm.training.loop import make_budget, train


def pretrain(config: PretrainConfig, run: Run) -> dict[str, Any]:
    """Pretrain an encoder and write it to the run's outputs; a stopped one is written as far as it came."""
    device = choose_device(config.device, run)
    torch.manual_seed(config.seed)
    with ExitStack() as stack:
        rasters = [stack.enter_context(open_raster(path, "rasters")) for path in config.rasters]
        areas = [parse_area(raster.grid, config.area) for raster in rasters]
        statistics = _statistics(config, rasters, areas)
        run.note(statistics.how)
        card = _card(config, rasters, statistics)
        sampler = WindowSampler(rasters, config.window, areas, config.seed)
        method = build_method(config.method, config.encoder, card.bands)
        windows = max(1, sum(area.height * area.width for area in areas) // config.window**2)
        run.progress(0, f"{windows} windows of {config.window} px in {len(rasters)} raster(s)")
        budget = make_budget(config.training, windows)
        fabric = Fabric(accelerator=device.split(":")[0], devices=_indices(device), precision=precision(device))
        try:
            position = train(method, _batches(sampler, card, config), config.training, budget, fabric, run)
        except Stopped:
            _save(card, method, run)
            raise
    path = _save(card, method, run, position)
    return {"model": path, "steps": position.step, "windows": position.windows, "seconds": round(position.seconds, 1)}


def _batches(sampler: WindowSampler, card: Card, config: PretrainConfig) -> Callable[[int], Sample]:
    normalisation = Normalisation.from_statistics(card.statistics)

    def batch(step: int) -> Sample:
        pixels, valid, gsd = sampler.batch(step, config.training.batch_size)
        valid_BHW = torch.from_numpy(valid)
        return Sample(normalisation(torch.from_numpy(pixels), valid_BHW), valid_BHW, torch.from_numpy(gsd))

    return batch


def build_method(method: Any, encoder: Any, bands: int) -> Method:
    """Build a method with its encoder, of fresh weights."""
    member = registry.member(methods, method.name, Method)  # type: ignore[type-abstract]
    return member(method, build_encoder(encoder.model_dump(), bands))


def _statistics(config: PretrainConfig, rasters: list[Raster], areas: list[Window]) -> Statistics:
    """Measure rasters as they are stored, or the entries of a collection in their units."""
    path = config.rasters[0]
    if is_collection(path):
        return collection_statistics(load(path).imagery, areas, config.seed, cache=cache_path(Path(path)))
    return band_statistics(rasters, areas, config.seed)


def _card(config: PretrainConfig, rasters: list[Raster], statistics: Statistics) -> Card:
    first = rasters[0]
    return Card(
        title=f"{config.method.name} on {first.name}",
        bands=first.bands,
        band_names=tuple(first.band_names),
        statistics=statistics,
        gsd=first.grid.gsd,
        window=config.window,
        encoder=config.encoder.model_dump(),
        method=config.method.model_dump(),
        footprints=tuple(footprint(raster.grid) for raster in rasters),
        trained_on=tuple(raster.name for raster in rasters),
        provenance={"training": config.training.model_dump(), "seed": config.seed},
    )


def _save(card: Card, method: Method, run: Run, position: Position | None = None) -> str:
    if position is not None:
        reached = {**card.provenance, **position._asdict()}
        card = card.model_copy(update={"provenance": reached})
    path = run.outputs / "encoder.safetensors"
    model_file.save(path, card, model_file.parts(encoder=method.encoder))
    run.output("model", path, card.title, needs="encoder")
    return str(path)


def _indices(device: str) -> list[int] | int:
    return [int(device.split(":")[1])] if ":" in device else 1
