"""Imports a checkpoint: reads it, recognises it, fits it to a raster's bands, and writes a model file."""

from typing import Any, NamedTuple

import torch

from rsfm import model_file, published_scaling
from rsfm.band_mapping import Mapped, map_bands
from rsfm.checkpoint_file import read_checkpoint
from rsfm.errors import UserError
from rsfm.importer import Found, check_complete, compare, full_weights, recognise
from rsfm.jobs.import_model import ImportModelConfig
from rsfm.model_file import Card
from rsfm.raster.grid import parse_area
from rsfm.raster.reader import open_raster
from rsfm.raster.statistics import Statistics, band_statistics
from rsfm.runs import Run, safe_name

REFLECTANCE = 10000.0
SHARE = 2.0
"""Largest mean up to which reflectance is taken to be stored as a share, and not times 10000."""
DECIBELS = ("ssl4eo_s1", "torchgeo_s1")
COLOURS = ("imagenet", "satmae_rgb", "satdino_rgb", "seco")
NOT_KNOWN = (
    "How the pixels of this model were scaled is not known, so they are used as they are. If you know it, choose it "
    "under 'Scaling'; the raster's own mean and spread suit most models."
)
NOT_DECIBELS = (
    "The raster's values are positive, but this model was trained on decibels. "
    "Convert it first: 10 * log10 of its values."
)


class Seen(NamedTuple):
    """What the raster is like that the model will be used on."""

    band_names: tuple[str, ...]
    gsd: float
    statistics: Statistics


def import_model(config: ImportModelConfig, run: Run) -> dict[str, Any]:
    """Import a checkpoint into the run's outputs.

    Raises:
        UserError: it cannot be read, is of no known kind, is not complete, or does not fit the raster.
    """
    checkpoint = read_checkpoint(config.checkpoint)
    importer, found = recognise(checkpoint)
    found = _as_told(config, found)
    report = compare(found.backbone)
    check_complete(checkpoint, importer, report)
    run.note(f"{importer.title}: {report}; {len(found.left_out)} that are no part of the encoder were left out.")
    seen = _look(config.raster) if config.raster else None
    mapped = map_bands(found, seen.band_names) if seen else keep_bands(found)
    for note in (*found.notes, mapped.note):
        if note:
            run.note(note)
    scaling = config.scaling if config.scaling != "published" else found.scaling or "identity"
    if config.scaling == "published" and not found.scaling:
        run.warning(NOT_KNOWN)
    statistics = _shift(_statistics(scaling, mapped, seen, run), config.offset)
    provenance = {
        "imported": checkpoint.path.name,
        "kind": importer.title,
        "tensors": str(report),
        "left_out": len(found.left_out),
        "scaling": scaling,
        "offset": config.offset,
        "bands": mapped.record,
        "notes": [note for note in (*found.notes, mapped.note) if note],
    }
    name = checkpoint.path.name.partition(".")[0]
    card = Card(
        title=f"{name} ({importer.title})",
        bands=mapped.backbone.bands,
        band_names=seen.band_names if seen else mapped.scaled_as,
        statistics=statistics,
        gsd=seen.gsd if seen else 0,
        window=mapped.backbone.config.get("window", 0),
        encoder=mapped.backbone.config,
        method={"name": found.method} if found.method else None,
        trained_on=(checkpoint.path.name,),
        provenance=provenance,
        licence="That of the imported weights; ask where they come from.",
    )
    path = run.outputs / f"{safe_name(name)}.safetensors"
    model_file.save(path, card, tensors(mapped))
    run.output("model", path, card.title, needs="encoder")
    return {"model": str(path), "kind": importer.title, "tensors": len(report.matched), "scaling": scaling}


def keep_bands(found: Found) -> Mapped:
    """Keep the bands that the file reads."""
    names = found.band_names or tuple(f"Band {number + 1}" for number in range(found.backbone.bands))
    return Mapped(found.backbone, names, {name: name for name in names}, "")


def tensors(mapped: Mapped) -> dict[str, torch.Tensor]:
    """Return the model file's tensors; counters that a file may lack, and nothing else, start at 0."""
    weights = full_weights(mapped.backbone.weights)
    for name in compare(mapped.backbone).matched:
        weights.setdefault(name, torch.zeros((), dtype=torch.int64))
    return {f"encoder.{name}": value for name, value in weights.items()}


def _as_told(config: ImportModelConfig, found: Found) -> Found:
    """Take the user's word for bands and groups."""
    if config.groups.strip() and found.backbone.config["name"] == "vit_grouped":
        told = {**found.backbone.config, "groups": config.groups}
        found = found._replace(backbone=found.backbone._replace(config=told), band_names=(), scaling="")
    elif config.groups.strip():
        raise UserError("This model has no groups of bands, only SatMAE may have. Empty 'Groups'.", "groups")
    names = tuple(name.strip() for name in config.bands.split(",") if name.strip())
    if names and len(names) != found.backbone.bands:
        raise UserError(
            f"'{config.bands}' names {len(names)} bands, and the file reads {found.backbone.bands}. "
            "Name all of them in order under 'Bands', or leave it empty.",
            "bands",
        )
    return found._replace(band_names=names) if names else found


def _look(path: str) -> Seen:
    with open_raster(path) as raster:
        statistics = band_statistics([raster], [parse_area(raster.grid, None)], seed=0)
        return Seen(raster.band_names, raster.grid.gsd, statistics)


def _statistics(scaling: str, mapped: Mapped, seen: Seen | None, run: Run) -> Statistics:
    if scaling == "raster":
        if seen is None:
            raise UserError("Its own mean and spread need a raster. Choose one under 'Raster'.", "raster")
        return seen.statistics
    statistics = published_scaling.statistics(scaling, mapped.scaled_as)
    if statistics is None:
        raise UserError(
            f"The scaling '{scaling}' does not know all of the bands {', '.join(mapped.scaled_as)}. Name them under "
            "'Bands' or in the raster, such as B4 or red, or choose another under 'Scaling'.",
            "scaling",
        )
    if seen and scaling in DECIBELS and min(seen.statistics.mean) > 0:
        run.warning(NOT_DECIBELS)
    reflectance = scaling not in (*DECIBELS, *COLOURS, "identity")
    if seen and reflectance and max(seen.statistics.mean) <= SHARE:
        run.note("The raster holds reflectance from 0 to 1, so nothing is divided by 10000.")
        return _scaled(statistics, 1 / REFLECTANCE)
    return statistics


def _scaled(statistics: Statistics, factor: float) -> Statistics:
    parts = {
        name: tuple(factor * value for value in getattr(statistics, name)) for name in ("mean", "std", "low", "high")
    }
    return statistics.model_copy(update=parts)


def _shift(statistics: Statistics, offset: float) -> Statistics:
    """Expect an offset on every pixel."""
    parts = {name: tuple(offset + value for value in getattr(statistics, name)) for name in ("mean", "low", "high")}
    return statistics.model_copy(update=parts)
