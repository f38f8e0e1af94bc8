"""Where the windows of a pretraining come from: the entries of collections, and rasters as if they were entries.

Shape letters: N windows, T dates, C bands, H rows, W columns.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from rasterio.errors import CRSError
from rasterio.warp import transform_bounds

from rsfm.blocks.normalisation import Normalisation
from rsfm.errors import UserError
from rsfm.jobs.pretrain import PretrainConfig
from rsfm.method import Dates, Method, Sample
from rsfm.raster.band_names import shared_bands
from rsfm.raster.collection import Band, Entry, is_collection, load
from rsfm.raster.collection_sampler import CollectionSampler
from rsfm.raster.collection_statistics import collection_statistics
from rsfm.raster.decoded_cache import DecodedCache, measure
from rsfm.raster.decoding import GB, advice, keep_decoded
from rsfm.raster.entry_raster import EntryRaster, entry_grid
from rsfm.raster.grid import Window, parse_area, parse_bounds
from rsfm.raster.plain_entry import plain_entry
from rsfm.raster.reader import open_raster, short_name
from rsfm.raster.statistics import Statistics
from rsfm.raster.statistics_cache import cache_path
from rsfm.raster.window_batch import WHOLE, Part, Windows
from rsfm.runs import Run
from rsfm.training.exchange import part_of_batches
from rsfm.training.lockstep import first_alone

MOST_MEASURED = 512
"""Rasters of a collection from which statistics are taken."""
MOST_PLACES = 20_000

MakeBatch = Callable[[int], Sample]


class Batches(NamedTuple):
    """Make the sample of a step, to learn from and to validate on; None where no ground is held out.

    Attributes:
        drawn: draws the windows of a step as `learn` does, in one process.
        shown: makes a sample to look at, of ground that is held out if there is some, in one process.
    """

    learn: MakeBatch
    validate: MakeBatch | None
    drawn: Callable[[int], Windows]
    shown: MakeBatch


class WindowSource(NamedTuple):
    """What is learned from.

    Attributes:
        rasters: as they are read, until the stack is closed.
        names, footprints: of the rasters; footprints in degrees.
        gsd: metres a pixel of the first raster.
        units: pixels are scaled as a collection says.
        windows: that cover all rasters once.
        batches: makes the samples that a method wants, and does what it needs before the first one.
        advice: what would make the next training faster, told how many seconds this one lasted; empty if nothing.
        sampler: draws what is learned from.
        growth: bytes of decoded pixels that reading on will keep in memory, besides those kept now.
    """

    bands: int
    band_names: tuple[str, ...]
    rasters: tuple[EntryRaster, ...]
    names: tuple[str, ...]
    footprints: tuple[tuple[float, float, float, float], ...]
    gsd: float
    units: bool
    windows: int
    statistics: Statistics
    batches: Callable[[Method, Run], Batches]
    advice: Callable[[Run, float], str]
    sampler: CollectionSampler
    growth: Callable[[], int]


def open_windows(config: PretrainConfig, stack: ExitStack) -> WindowSource:
    """Open what the config names, until the stack is closed.

    Raises:
        UserError: a raster or collection cannot be used, or they do not fit together.
    """
    entries, areas = _cut(_entries(config.rasters), config.area)
    sampler = CollectionSampler(entries, config.window, config.sampling, areas, config.seed)
    stack.callback(sampler.close)
    statistics = first_alone(lambda: _measure(sampler, config))
    normalise = Normalisation.from_statistics(statistics)
    collected = any(map(is_collection, config.rasters))

    held_out = None
    if config.sampling.held_out:
        held_out = CollectionSampler(
            entries, config.window, config.sampling, areas, config.seed, like=sampler, validation=True
        )

    def batches(method: Method, run: Run) -> Batches:
        for note in sampler.notes:
            run.note(note)
        dated = method.dates > 1 and (collected or not method.timed)  # the date of a plain raster is not known
        several = dated and sampler.check_dates(method.timed)
        if method.one_date and not several:
            raise UserError(method.one_date, "rasters")
        method.tell_bands(sampler.band_names)
        if method.placed:
            places_N2 = torch.from_numpy(sampler.places(min(sampler.windows, MOST_PLACES)))
            for warning in method.prepare(places_N2):
                run.warning(warning)
        dates = method.dates if several else 1
        if config.sampling.cache_gb:
            _keep_decoded(sampler, config.sampling.cache_gb, run, stack)

        part = part_of_batches()

        def make(drawn_from: CollectionSampler, step: int, part: Part = part) -> Sample:
            return _sample(drawn_from, normalise, step, config.training.batch_size, dates, dated, part)

        drawn = partial(sampler.batch, count=config.training.batch_size, dates=dates)
        shown = partial(make, held_out or sampler, part=WHOLE)
        return Batches(partial(make, sampler), partial(make, held_out) if held_out else None, drawn, shown)

    return WindowSource(
        bands=sampler.bands,
        band_names=sampler.band_names,
        rasters=tuple(sampler.rasters),
        names=tuple(raster.name for raster in sampler.rasters),
        footprints=tuple(entry.footprint for entry in sampler.entries if entry.footprint),
        gsd=sampler.rasters[0].grid.gsd,
        units=collected,
        windows=sampler.windows,
        statistics=statistics,
        batches=batches,
        advice=partial(_advice, sampler, config.sampling.cache_gb),
        sampler=sampler,
        growth=partial(_growth, sampler),
    )


def _keep_decoded(sampler: CollectionSampler, gigabytes: float, run: Run, stack: ExitStack) -> None:
    """Decode rasters into the run's folder; the stack removes them."""

    def report(done: int, count: int) -> None:
        run.check()
        run.progress(0, f"Decoding raster {done + 1} of {count} to disk")

    disk = DecodedCache(run.folder / "decoded", round(gigabytes * GB))
    stack.callback(disk.remove)
    kept = keep_decoded(disk, sampler.rasters, report)
    sampler.reader.disk = disk
    left_out = len(sampler.rasters) - kept
    if left_out:
        run.note(f"{left_out} of {len(sampler.rasters)} raster(s) did not fit in 'Cache gb' and are decoded again.")


def _growth(sampler: CollectionSampler) -> int:
    decoded = sum(
        area.height * area.width * raster.bands * raster.dtype.itemsize
        for area, raster in zip(sampler.areas, sampler.rasters, strict=True)
    )
    return max(0, min(decoded, sampler.reader.memory_bytes) - sampler.reader.kept_bytes)


def _advice(sampler: CollectionSampler, gigabytes: float, run: Run, seconds: float) -> str:
    measured = partial(measure, folder=run.folder)
    return "" if gigabytes else advice(sampler.reader, sampler.rasters, seconds, measured)


def _sample(
    sampler: CollectionSampler,
    normalise: Normalisation,
    step: int,
    count: int,
    dates: int,
    dated: bool,
    part: Part,
) -> Sample:
    found = sampler.batch(step, count, dates, part)
    valid_BTHW = torch.from_numpy(found.valid_NTHW)
    flat = normalise(torch.from_numpy(found.pixels_NTCHW).flatten(0, 1), valid_BTHW.flatten(0, 1))
    pixels_BTCHW = flat.reshape(found.pixels_NTCHW.shape)
    known = Dates(pixels_BTCHW, valid_BTHW, torch.from_numpy(found.time_NT3), torch.from_numpy(found.place_N2))
    gsd_B = torch.from_numpy(found.gsd_N)
    return Sample(pixels_BTCHW[:, 0], valid_BTHW[:, 0], gsd_B, known if dated else None)


def _entries(paths: Sequence[str]) -> list[Entry]:
    """Return the entries of collections, and rasters as entries; with rasters alone, their pixels are taken as stored.

    Raises:
        UserError: there are rasters alone, and their numbers of bands differ.
    """
    found = [entry for path in paths for entry in (load(path).imagery if is_collection(path) else [_as_entry(path)])]
    if any(map(is_collection, paths)):
        return found
    first = found[0]
    for entry in found[1:]:
        if len(entry.bands) != len(first.bands):
            raise UserError(
                f"'{short_name(first.path)}' has {len(first.bands)} bands but '{short_name(entry.path)}' has "
                f"{len(entry.bands)}. Choose rasters with the same bands under 'Rasters'.",
                "rasters",
            )
    by_name = len(shared_bands(found)) == len(first.bands)
    return [
        entry.model_copy(update={"decibel": True} | ({} if by_name else _named_as(entry, first))) for entry in found
    ]


def _as_entry(path: str) -> Entry:
    with open_raster(path, "rasters") as raster:
        return plain_entry(raster)


def _named_as(entry: Entry, first: Entry) -> dict[str, tuple[Band, ...]]:
    """Give bands the names of those in the same place of the first raster."""
    names = [band.name for band in first.bands]
    return {"bands": tuple(Band(number=own.number, name=name) for own, name in zip(entry.bands, names, strict=True))}


def _cut(entries: list[Entry], area: str | None) -> tuple[list[Entry], list[Window] | None]:
    """Return the entries that an area in the CRS of the first one touches, and where."""
    if area is None or not entries:
        return entries, None
    bounds, crs = parse_bounds(area), entry_grid(entries[0]).crs
    kept, windows = [], []
    for entry in entries:
        grid = entry_grid(entry)
        try:
            inside = bounds if grid.crs == crs else transform_bounds(crs, grid.crs, *bounds)
            windows.append(parse_area(grid, ",".join(f"{value!r}" for value in inside)))
            kept.append(entry)
        except (UserError, CRSError):
            continue
    if not kept:
        parse_area(entry_grid(entries[0]), area)
    return kept, windows


def _measure(sampler: CollectionSampler, config: PretrainConfig) -> Statistics:
    """Measure the bands of all rasters, or of some drawn at random; remembered beside a collection."""
    chosen = np.random.default_rng(config.seed).permutation(len(sampler.rasters))[:MOST_MEASURED]
    entries = [_as_read(sampler.entries[number], sampler.rasters[number]) for number in sorted(chosen)]
    areas = [sampler.areas[number] for number in sorted(chosen)]
    bands = _told_apart(sampler.band_names) if all(entry.bands for entry in entries) else ()
    path = config.rasters[0]
    cache = cache_path(Path(path)) if len(config.rasters) == 1 and is_collection(path) else None
    return collection_statistics(entries, areas, config.seed, bands, cache)


def _as_read(entry: Entry, raster: EntryRaster) -> Entry:
    """Return an entry with the bands that are read, by the names they have in common."""
    numbers = raster.wanted or ()
    names = _told_apart(raster.band_names)
    bands = tuple(Band(number=number, name=name) for number, name in zip(numbers, names, strict=bool(numbers)))
    return entry.model_copy(update={"bands": bands})


def _told_apart(names: Sequence[str]) -> tuple[str, ...]:
    """Return names that differ, as statistics find bands by them."""
    if len(set(names)) == len(names):
        return tuple(names)
    return tuple(f"{name} {number}" for number, name in enumerate(names, 1))
