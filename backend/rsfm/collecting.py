"""Makes a collection and says what is in it."""

from pathlib import Path
from typing import Any

from rsfm.errors import Stopped, UserError
from rsfm.jobs.collect import CollectConfig
from rsfm.raster.collection import SUFFIX, Collection, save
from rsfm.raster.collection_findings import find_trouble
from rsfm.raster.gather import Gathered, gather
from rsfm.raster.joined_sensors import join_sensors
from rsfm.runs import Run, safe_name


def collect(config: CollectConfig, run: Run) -> dict[str, Any]:
    """Look at all rasters and write the collection.

    Raises:
        UserError: no raster was found, none can be used, or the file cannot be written.
        Stopped: after writing what was looked at; the next run goes on from there.
    """
    target = _target(config, run)

    def report(done: int, total: int) -> None:
        run.check()
        run.progress(0.98 * done / total, f"{done} of {total} rasters")

    found = gather(config.rasters, config.name, target, report)
    if config.join_sensors and not found.stopped:
        found = _join(found, config.join_sensors, target)
    for warning in [*found.warnings, *find_trouble(found.collection)]:
        run.warning(warning)
    for entry in [entry for entry in found.collection.entries if entry.problem][:20]:
        run.note(entry.problem)
    if config.refuse_useless and not found.stopped:
        _refuse_useless(found.collection)
    try:
        save(target, found.collection)
    except OSError as error:
        raise UserError(
            f"'{target}' cannot be written ({error.strerror}). Choose another file under 'Output'.", "output"
        ) from error
    run.output("collection", target, found.collection.name)
    if found.stopped:
        raise Stopped
    return summary(found.collection, target, found.new)


def _join(found: Gathered, days: int, target: Path) -> Gathered:
    """Join radar and optical rasters.

    Raises:
        UserError: the folder of the collection cannot be written to.
    """
    try:
        joined = join_sensors(found.collection.entries, days, target)
    except OSError as error:
        raise UserError(
            f"Nothing can be written beside '{target}' ({error.strerror}). Choose another file under 'Output'.",
            "output",
        ) from error
    collection = found.collection.model_copy(update={"entries": tuple(joined.entries)})
    return found._replace(collection=collection, warnings=[*found.warnings, *joined.warnings])


def summary(collection: Collection, target: Path, new: int) -> dict[str, Any]:
    dates = sorted(entry.date for entry in collection.imagery if entry.date)
    learned, every = len(collection.imagery), len(collection.entries)
    return {
        "sentence": f"{learned} of {every} raster{'s' if every != 1 else ''} can be learned from.",
        "collection": str(target),
        "rasters": len(collection.entries),
        "imagery": len(collection.imagery),
        "new": new,
        "unusable": sum(bool(entry.problem) for entry in collection.entries),
        "first": dates[0][:10] if dates else "",
        "last": dates[-1][:10] if dates else "",
    }


def _target(config: CollectConfig, run: Run) -> Path:
    if not config.output:
        return run.outputs / f"{safe_name(config.name)}{SUFFIX}"
    path = Path(config.output).expanduser().absolute()
    if not path.name.endswith(SUFFIX):
        path = path.with_name(f"{path.name.removesuffix('.json')}{SUFFIX}")
    if not path.parent.is_dir():
        raise UserError(f"The folder '{path.parent}' does not exist. Choose another one under 'Output'.", "output")
    return path


def _refuse_useless(collection: Collection) -> None:
    """Refuse a collection in which nothing can be learned from, with the first reason."""
    if collection.imagery:
        return
    reasons = [entry.problem for entry in collection.entries if entry.problem]
    what = reasons[0] if reasons else "They are masks, labels or heights. Add imagery under 'Rasters'."
    raise UserError(f"None of the {len(collection.entries)} rasters can be learned from. {what}", "rasters")
