"""Exports a model: writes the file, reads it back, compares it with the model itself, and only then publishes it.

Shape letters: B batch, C bands, S side of a tile, K classes.
"""

import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rsfm import __version__, exporters, model_file, registry
from rsfm.errors import UserError
from rsfm.exporter import Exporter, Subject
from rsfm.inference import plan_for
from rsfm.jobs.export_model import ExportModelConfig
from rsfm.model_file import Model
from rsfm.networks import EncoderNetwork, head_network
from rsfm.portable import Portable, shares
from rsfm.raster.grid import Window
from rsfm.raster.in_units import InUnits
from rsfm.raster.reader import Raster
from rsfm.raster.scaling import radar_bands
from rsfm.runs import Run, safe_name, write_json
from rsfm.training.finetuning import open_for

TILES = 4
ATTEMPTS = 50
ALLOWED = 1e-3
"""Largest difference between file and model, as a share of the output's own largest value."""
NAME_LENGTH = 60


class Tiles(NamedTuple):
    """Tiles to check a file on: pixels_BCSS in the model's unit, NaN where invalid, and valid_BSS."""

    pixels_BCSS: Tensor
    valid_BSS: Tensor


def export_model(config: ExportModelConfig, run: Run) -> dict[str, Any]:
    """Export a model into the run's outputs.

    Raises:
        UserError: the kind of file cannot hold the model, or the file's answers are not the model's.
    """
    model = model_file.load(config.model)
    exporter = registry.member(exporters, config.format, Exporter)()  # type: ignore[type-abstract]
    opened: AbstractContextManager[Raster | None] = open_for(model, config.raster) if config.raster else nullcontext()
    with opened as raster:
        subject = make_subject(model, exporter, config, raster)
        tiles = sample_tiles(subject, exporter.side(subject), raster)
    expected = _expected(subject, tiles)
    stem = safe_name((model.card.title or Path(config.model).stem)[:NAME_LENGTH])
    target = run.outputs / f"{stem}{exporter.suffix}"
    partial = target.with_name(f"{stem}.partial{exporter.suffix}")
    run.check()
    run.progress(0.1, f"Writing {exporter.title}")
    try:
        notes = exporter.write(subject, partial)
        run.check()
        run.progress(0.7, "Comparing the file with the model")
        check = _compare(exporter, subject, partial, tiles, expected)
        run.check()
        check["tiles_of"] = config.raster or "made-up pixels within the model's statistics"
        write_json(target.with_suffix(".json"), describe(exporter, subject, target.name, notes, check))
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
    if subject.scale is None:
        run.warning(
            "The model reads decibels and the raster holds linear backscatter: convert its bands by 10 * log10 before "
            "they go into the file."
        )
    run.output("export", target, f"{model.card.title} as {exporter.title}")
    return {"file": str(target), "format": exporter.title, **check}


def make_subject(model: Model, exporter: Exporter, config: ExportModelConfig, raster: Raster | None) -> Subject:
    """Prepare what is exported: the whole fine-tuned model, or its encoder."""
    with_head = exporter.whole and model.card.head is not None
    network = head_network(model) if with_head else EncoderNetwork(model.encoder(), model.card.statistics).eval()
    plan = plan_for(network, config.tiling)
    nodata, scale, offset = _stored(raster)
    names = model.card.band_names or tuple(f"Band {number + 1}" for number in range(model.card.bands))
    gsd = raster.grid.gsd if raster else model.card.gsd
    return Subject(model, Portable(network, nodata).eval(), names, plan, gsd, scale, offset)


def sample_tiles(subject: Subject, side: int, raster: Raster | None) -> Tiles:
    """Take tiles of a raster that hold valid pixels, or make some; always the same ones.

    A corner of the last tile is made invalid, so that the check sees nodata too.
    """
    random = np.random.default_rng(0)
    card, pixels, valid = subject.model.card, [], []
    for _ in range(ATTEMPTS if raster else TILES):
        if raster is None:
            shape = (card.bands, side, side)
            mean, std = (np.array(part)[:, None, None] for part in (card.statistics.mean, card.statistics.std))
            found_CSS, found_SS = mean + 1.5 * std * random.normal(size=shape), np.ones(shape[1:], bool)
        else:
            row, column = (int(random.integers(max(size - side, 0) + 1)) for size in raster.grid[2:4])
            found_CSS, found_SS = raster.read(Window(row, column, side, side), "reflect")
        if found_SS.any():
            pixels.append(found_CSS)
            valid.append(found_SS)
        if len(pixels) == TILES:
            break
    if not pixels:
        raise UserError("Hardly a pixel of the raster is valid. Choose another one under 'Raster'.", "raster")
    pixels_BCSS = torch.from_numpy(np.stack(pixels).astype(np.float32))
    valid_BSS = torch.from_numpy(np.stack(valid))
    valid_BSS[-1, : side // 4, : side // 3] = False
    return Tiles(torch.where(valid_BSS.unsqueeze(1), pixels_BCSS, torch.nan), valid_BSS)


def describe(
    exporter: Exporter, subject: Subject, file: str, notes: dict[str, Any], check: dict[str, Any]
) -> dict[str, Any]:
    """Say what a file takes and gives, for people."""
    card, side, portable = subject.model.card, exporter.side(subject), subject.portable
    marker = "" if portable.nodata is None else f", or {portable.nodata:g}"
    statistics = {name: list(getattr(card.statistics, name)) for name in ("low", "high", "mean", "std")}
    return {
        "file": file,
        "format": exporter.title,
        "model": card.title,
        "made_by": f"RSFM {__version__}",
        "input": {
            "shape": ["any batch", card.bands, side, side],
            "type": "float32",
            "bands_in_order": list(subject.band_names),
            "values": _values(subject) if exporter.whole else "clipped and standardised by the reader, see below",
            "nodata": f"NaN in any band{marker}" if exporter.whole else "0, after standardising",
        },
        "outputs": _outputs(subject, exporter, side),
        "normalisation": {
            "inside_the_file": exporter.whole,
            "how": "(min(max(pixel, low), high) - mean) / std, band by band",
            **statistics,
        },
        "classes": [name.model_dump() for name in card.classes] if exporter.whole else [],
        "pixel_size_m": subject.gsd,
        "tile_overlap_percent": subject.overlap,
        "check": check,
        "licence": card.licence,
        **notes,
    }


def _outputs(subject: Subject, exporter: Exporter, side: int) -> dict[str, Any]:
    network = subject.portable.network
    cells = side // network.stride
    if exporter.whole and subject.portable.outputs == ("classes",):
        meaning = "shares that sum to 1; index 0 is no data, the index of the largest is the class's value"
        return {"classes": {"shape": ["any batch", 1 + network.outputs, side, side], "meaning": meaning}}
    features = {"shape": ["any batch", network.outputs, cells, cells], "meaning": "one cell a patch, row by row"}
    embedding = {"shape": ["any batch", network.outputs], "meaning": "one vector a tile"}
    return {"features": features, "embedding": embedding} if exporter.whole else {"features": features}


def _values(subject: Subject) -> str:
    if not subject.model.card.units:
        return "as stored in the raster"
    if subject.scale is None:
        return "in the unit of the collection: decibels for radar"
    return f"in the unit of the collection: stored * {subject.scale:g} + {subject.offset:g}"


def _stored(raster: Raster | None) -> tuple[float | None, float | None, float | None]:
    """Return nodata in the unit that the model reads, and the scale and offset that lead there, if they do."""
    if not isinstance(raster, InUnits):
        return (raster.nodata if raster else None), 1.0, 0.0
    if radar_bands(raster.entry, raster.band_names):
        return None, None, None
    nodata = raster.raster.nodata if raster.entry.nodata is None else raster.entry.nodata
    scale, offset = raster.entry.scale, raster.entry.offset
    return (None if nodata is None else nodata * scale + offset), scale, offset


@torch.inference_mode()
def _expected(subject: Subject, tiles: Tiles) -> dict[str, Tensor]:
    """Compute with the model itself, as mapping does."""
    network: Any = subject.portable.network
    pixels_BCSS = tiles.pixels_BCSS.nan_to_num(0)
    if isinstance(network, EncoderNetwork):
        normal_BCSS = network.normalisation(pixels_BCSS, tiles.valid_BSS)
        return {
            "features": network(pixels_BCSS, tiles.valid_BSS),
            "embedding": network.encoder.embedding(normal_BCSS),
        }
    return {"classes": shares(network(pixels_BCSS, tiles.valid_BSS), tiles.valid_BSS)}


@torch.inference_mode()
def _compare(
    exporter: Exporter, subject: Subject, path: Path, tiles: Tiles, expected: dict[str, Tensor]
) -> dict[str, Any]:
    """Compare what the file gives, for one tile and for all at once, with what the model gives.

    Raises:
        UserError: they differ by more than is allowed.
    """
    largest: dict[str, float] = {}
    for count in (1, len(tiles.pixels_BCSS)):
        found = exporter.answers(subject, path, tiles.pixels_BCSS[:count])
        for name, value in found.items():
            wanted = expected[name][:count]
            difference = float((value - wanted).abs().max() / wanted.abs().max().clamp(min=1))
            largest[name] = max(largest.get(name, 0.0), difference)
    worst = max(largest.values())
    if not worst <= ALLOWED:
        raise UserError(
            f"The file gives other values than the model: they differ by up to {worst:.1g} of the largest value, and "
            f"{ALLOWED:g} is allowed. Nothing was written; choose another kind under 'Format'.",
            "format",
        )
    result: dict[str, Any] = {"largest_difference": largest, "allowed": ALLOWED, "tiles": len(tiles.pixels_BCSS)}
    if "classes" in found:
        other = found["classes"].argmax(1) != expected["classes"].argmax(1)
        result["pixels_of_another_class"] = int(other.sum())
    return result
