"""Maps the rasters of a collection, a folder or a pattern one after the other, as if each were a run of its own.

A raster that is done stays done when the run is taken up again, and one that cannot be mapped costs the others nothing.
"""

import json
import logging
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from rsfm.errors import Cancelled, Stopped, UserError
from rsfm.part import Part
from rsfm.preview import empty_previews
from rsfm.raster.collection import Entry
from rsfm.raster.collection_source import find_entry
from rsfm.raster.dates import known_date
from rsfm.raster.describing import describe_raster
from rsfm.raster.several import Source, area_of, find_sources, is_several
from rsfm.runs import Run, remove_partial, write_json

log = logging.getLogger(__name__)
Settings = TypeVar("Settings", bound=Any)
"""A config with `raster`, `area` and `model`."""
Do = Callable[[Settings, Run], dict[str, Any]]
FINISHED = "finished.json"


def each_raster(
    config: Settings,
    run: Run,
    do: Do[Settings],
    prepare: Callable[[Sequence[Settings], Run], Do[Settings]] | None = None,
) -> dict[str, Any]:
    """Map the raster of a config, or each of several.

    Args:
        do: maps one raster, and returns its result.
        prepare: given the configs of several rasters, returns what maps one of them in place of `do`.

    Returns:
        The result; of several rasters the results by name, and why any was left out.

    Raises:
        UserError: none could be mapped.
    """
    if not is_several(config.raster):
        run.said = _said(find_entry(config.raster) or describe_raster(config.raster))
        return do(config, run)
    sources = find_sources(config.raster, run.checkpoints)
    configs = [
        config.model_copy(update={"raster": source.path, "area": area_of(config.area, source, sources[0])})
        for source in sources
    ]
    if prepare is not None and len(sources) > 1:
        do = prepare(configs, run)
    pixels = [max(source.entry.height * source.entry.width, 1) for source in sources]
    results: dict[str, Any] = {}
    left_out: dict[str, UserError] = {}
    for index, (source, own) in enumerate(zip(sources, configs, strict=True)):
        run.check()
        share = sum(pixels[:index]) / sum(pixels), pixels[index] / sum(pixels)
        part = Part(run, source.name, *share, _said(source.entry))
        part.progress(0, f"{index + 1} of {len(sources)} rasters")
        try:
            results[source.name] = _once(source, own, part, do)
        except UserError as error:
            left_out[source.name] = error
            _leave_out(part, str(error))
        empty_previews(part.previews)
    if not results:
        raise next(iter(left_out.values()))
    return _summary(results, left_out)


def _once(source: Source, config: Any, part: Part, do: Do[Any]) -> dict[str, Any]:
    """Map a raster unless an earlier start did; whatever goes wrong with it is a reason to leave it out."""
    file = part.checkpoints / FINISHED
    made_of = json.loads(
        json.dumps([config.model_dump(mode="json"), source.entry.model_dump(), _stamp(source.entry.path),
                    _stamp(config.model)])
    )  # fmt: skip
    try:
        known = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = {}
    if known.get("made_of") == made_of:
        result: dict[str, Any] = known["result"]
        return result
    file.unlink(missing_ok=True)
    if source.entry.problem:
        raise UserError(source.entry.problem, "raster")
    try:
        result = do(config, part)
    except (Stopped, Cancelled, UserError):
        raise
    except Exception as error:
        log.error("%s", traceback.format_exc())
        raise UserError(f"{type(error).__name__}: {error}. The log has the details.") from error
    write_json(file, {"made_of": made_of, "result": result})
    return result


def _leave_out(part: Part, reason: str) -> None:
    """Tell why a raster is left out; a file that was being written is removed."""
    part.warning(f"left out. {reason}")
    remove_partial(part.outputs)
    if not any(part.outputs.iterdir()):
        part.outputs.rmdir()


def _said(entry: Entry) -> dict[str, Any]:
    """Return what is told with every output of a raster."""
    date = known_date(entry)
    return {"date": date} if date else {}


def _stamp(path: str) -> list[int]:
    """Tell one state of a file from another; [0, 0] where it is none."""
    try:
        found = Path(path).stat()
    except OSError:
        return [0, 0]
    return [found.st_mtime_ns, found.st_size]


def _summary(results: dict[str, Any], left_out: dict[str, UserError]) -> dict[str, Any]:
    every = len(results) + len(left_out)
    sentence = f"{len(results)} of {every} rasters are mapped."
    if left_out:
        sentence = f"{sentence[:-1]}; left out: {', '.join(left_out)}."
    return {
        "sentence": sentence,
        "rasters": results,
        **({"left_out": {name: str(error) for name, error in left_out.items()}} if left_out else {}),
    }
