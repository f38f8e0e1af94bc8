"""Makes a collection of whatever the user has: looks at every raster once, in several threads."""

import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

from rsfm.errors import Stopped, UserError
from rsfm.raster.collection import SUFFIX, Collection, Entry, load
from rsfm.raster.describing import describe_raster
from rsfm.raster.find_rasters import Found, find_rasters
from rsfm.raster.overlap import overlaps
from rsfm.raster.scene_vrt import write_vrt

THREADS = min(16, 4 * (os.cpu_count() or 1))


class Gathered(NamedTuple):
    """A collection.

    Attributes:
        new: how many of its rasters were not known before.
        warnings: what to tell the user.
        stopped: whether the user ended the work before all rasters were looked at.
    """

    collection: Collection
    new: int
    warnings: list[str]
    stopped: bool


def gather(
    sources: Sequence[str], name: str, target: Path, report: Callable[[int, int], None] = lambda _done, _all: None
) -> Gathered:
    """Describe rasters as a collection that will be written to `target`.

    A collection that is already there is extended: what the user corrected of a raster stays, and only a raster that
    could not be used is looked at again.

    Args:
        sources: files, folders, patterns, STAC items, collections.
        target: bands that lie in a file each are put together as VRTs beside it.
        report: called with how many rasters are done, of how many; `Stopped` ends the work and keeps what is done.

    Raises:
        UserError: nothing was found.
    """
    found = find_rasters(sources)
    before = list(load(str(target)).entries) if target.is_file() else []
    known = {entry.path: entry for entry in [*found.known, *before] if not entry.problem}
    files = _vrt_names(found.rasters, target)
    rasters = [raster for raster in found.rasters if files.get(raster.path, raster.path) not in known]
    made, stopped = _describe_all(rasters, files, report)
    fresh = {entry.path: entry for entry in made}
    old = {entry.path: entry for entry in [*before, *found.known]}
    merged = {**old, **fresh, **{path: entry for path, entry in known.items() if path in old}}
    entries = pair_masks(list(merged.values()))
    return Gathered(Collection(name=name, entries=tuple(entries)), len(fresh), found.warnings, stopped)


def pair_masks(entries: Sequence[Entry]) -> list[Entry]:
    """Give imagery the mask of its own day and place that lies nearest to it; one that has a mask keeps it."""
    by_day: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        if entry.role == "mask" and entry.used and not entry.problem and entry.masked and entry.date:
            by_day[entry.date[:10]].append(entry)
    return [_with_mask(entry, by_day.get((entry.date or "")[:10], [])) for entry in entries]


def default_target(name: str, folder: Path) -> Path:
    return folder / f"{name}{SUFFIX}"


def _with_mask(entry: Entry, masks: Sequence[Entry]) -> Entry:
    if entry.role != "imagery" or entry.mask or entry.problem or not masks:
        return entry
    near = [mask for mask in masks if mask.place == entry.place and overlaps(mask.footprint, entry.footprint)]
    if not near:
        return entry
    mask = max(near, key=lambda each: len(os.path.commonpath([each.path, entry.path])))
    return entry.model_copy(update={"mask": mask.path, "masked": mask.masked})


def _describe_all(
    rasters: Sequence[Found], files: dict[str, str], report: Callable[[int, int], None]
) -> tuple[list[Entry], bool]:
    """Describe rasters in their order; also return whether the user stopped it."""
    entries: dict[int, Entry] = {}
    stopped = False
    with ThreadPoolExecutor(THREADS) as pool:
        jobs = {pool.submit(_describe, raster, files): index for index, raster in enumerate(rasters)}
        try:
            for done, job in enumerate(as_completed(jobs), 1):
                entries[jobs[job]] = job.result()
                report(done, len(rasters))
        except Stopped:
            stopped = True
            pool.shutdown(cancel_futures=True)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return [entries[index] for index in sorted(entries)], stopped


def _describe(raster: Found, files: dict[str, str]) -> Entry:
    if not raster.bands:
        return describe_raster(raster.path, raster.told)
    path = files[raster.path]
    try:
        tags = write_vrt(Path(path), raster.bands)
    except UserError as error:
        return Entry(path=path, place=raster.told.place, problem=str(error))
    told = raster.told._replace(name=_known_as(raster), tags={**tags, **raster.told.tags})
    return describe_raster(path, told)


def _known_as(raster: Found) -> str:
    """Return a path whose names tell date and sensor: those of the first band's file."""
    return raster.path if raster.told.name == "" else str(Path(raster.path).with_name(raster.told.name))


def _vrt_names(rasters: Sequence[Found], target: Path) -> dict[str, str]:
    """Choose the file of each raster whose bands lie in a file each."""
    folder = target.resolve().with_name(f"{target.name.removesuffix(SUFFIX)}.bands")
    found: dict[str, str] = {}
    for raster in rasters:
        if raster.bands:
            told = raster.told
            parts = (
                [told.sensor.replace(" ", "_"), told.place, Path(raster.path).name]
                if told.place
                else [Path(raster.path).name]
            )
            stem = "_".join(part for part in parts if part)
            taken = set(found.values())
            path, count = folder / f"{stem}.vrt", 1
            while str(path) in taken:
                count += 1
                path = folder / f"{stem}_{count}.vrt"
            found[raster.path] = str(path)
    return found
