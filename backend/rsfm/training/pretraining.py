"""Pretraining, from rasters to a model file."""

from contextlib import ExitStack
from typing import Any

import torch

from rsfm import methods, model_file, registry
from rsfm.allocator import keep_freed_memory
from rsfm.blocks.ranks import rank
from rsfm.devices import choose_device
from rsfm.errors import Stopped
from rsfm.jobs.pretrain import PretrainConfig
from rsfm.method import Method
from rsfm.model_file import Card, build_encoder
from rsfm.plan import duration
from rsfm.runs import Run
from rsfm.training.checkpoint import Position
from rsfm.training.fabric import make_fabric
from rsfm.training.loop import make_budget, train
from rsfm.training.recording import Recorder
from rsfm.training.watchers import NOBODY, make_watchers
from rsfm.training.window_source import WindowSource, open_windows


def pretrain(config: PretrainConfig, run: Run) -> dict[str, Any]:
    """Pretrain an encoder and write it to the run's outputs; a stopped one is written as far as it came."""
    device = choose_device(config.device, run)
    keep_freed_memory()
    torch.manual_seed(config.seed)
    with ExitStack() as stack:
        source = open_windows(config, stack)
        run.note(source.statistics.how)
        card = _card(config, source)
        method = build_method(config.method, config.encoder, card.bands)
        batches = source.batches(method, run)
        run.progress(0, f"{source.windows} windows of {config.window} px in {len(source.names)} raster(s)")
        budget = make_budget(config.training, source.windows)
        fabric = make_fabric(device)
        recorder = Recorder(config, source, batches, method, str(fabric.strategy.precision.precision), run)
        watchers = make_watchers(config, source, method, budget, device, run) if rank() == 0 else NOBODY
        try:
            position = train(
                method, batches.learn, config.training, budget, fabric, run, batches.validate, watchers.all
            )
        except Stopped:
            _save(card, method, run)
            watchers.report()
            recorder.record(None)
            raise
        watchers.finish(method, position)
        slow = source.advice(run, position.seconds)
        if slow:
            run.note(slow)
        path = _save(card, method, run, position)
        recorder.record(position)
    done = {"model": path, "steps": position.step, "windows": position.windows, "seconds": round(position.seconds, 1)}
    return {"sentence": _sentence(position, config.window), **watchers.result(), **done}


def _sentence(position: Position, window: int) -> str:
    """Say how much was learned from."""
    return f"Learned from {position.windows:,} windows of {window} x {window} px in {duration(position.seconds)}."


def build_method(method: Any, encoder: Any, bands: int) -> Method:
    """Build a method with its encoder, of fresh weights."""
    member = registry.member(methods, method.name, Method)  # type: ignore[type-abstract]
    return member(method, build_encoder(encoder.model_dump(), bands))


def _card(config: PretrainConfig, source: WindowSource) -> Card:
    return Card(
        title=f"{config.method.name} on {source.names[0]}",
        bands=source.bands,
        band_names=source.band_names,
        units=source.units,
        statistics=source.statistics,
        gsd=source.gsd,
        window=config.window,
        encoder=config.encoder.model_dump(),
        method=config.method.model_dump(),
        footprints=source.footprints,
        trained_on=source.names,
        provenance={"training": config.training.model_dump(), "seed": config.seed},
    )


def _save(card: Card, method: Method, run: Run, position: Position | None = None) -> str:
    if position is not None:
        reached = {**card.provenance, **position._asdict()}
        card = card.model_copy(update={"provenance": reached})
    path = run.outputs / "encoder.safetensors"
    if rank():  # the first process writes it
        return str(path)
    kept = {f"method.{name}": tensor.detach().cpu().contiguous() for name, tensor in method.kept().items()}
    model_file.save(path, card, model_file.parts(encoder=method.encoder) | kept)
    run.output("model", path, card.title, needs="encoder")
    return str(path)
