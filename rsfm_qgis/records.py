"""Reads the folder of a run: what it made, how far it is, the models found in it. No Qt; nothing is written."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ENDED = frozenset({"stopped", "cancelled", "failed", "done", "lost"})
DETECTOR = "faster_rcnn"
HEADER_LIMIT = 16 * 2**20


class Output(NamedTuple):
    """A file of a run; `kind` is a module of `layers/` where it is a map layer.

    Attributes:
        date: of what it shows, as much as is known: "2015-07-11T10:23:00", "2015-07-11", "2015", or nothing.
        key: of a preview, which takes the place of the one before of the same key; empty for a finished file.
    """

    kind: str
    path: str
    title: str
    style: dict[str, Any]
    date: str = ""
    key: str = ""


class Record(NamedTuple):
    """What the events of a run say so far, and the byte after the last whole event."""

    outputs: tuple[Output, ...]
    previews: tuple[Output, ...]
    progress: dict[str, Any]
    warnings: tuple[str, ...]
    position: int


class Model(NamedTuple):
    """A model file: its card's title, and what it can be used for, as jobs say in "needs"."""

    path: str
    title: str
    serves: frozenset[str]


def read_record(folder: Path) -> Record:
    """Read the events of a run; a run without events has an empty record."""
    try:
        text = (folder / "events.jsonl").read_bytes()
    except OSError:
        return Record((), (), {}, (), 0)
    position = text.rfind(b"\n") + 1
    outputs: dict[str, Output] = {}
    previews: dict[str, Output] = {}
    warnings: list[str] = []
    last_progress = b""
    for line in text[:position].splitlines():
        if b'"type": "progress"' in line:
            last_progress = line
        elif b'"type": "output"' in line:
            output = read_output(json.loads(line))
            outputs[output.path] = output  # a run that was taken up again tells of its outputs again
        elif b'"type": "preview"' in line:
            preview = read_output(json.loads(line))
            previews[preview.key] = preview
        elif b'"type": "warning"' in line:
            warnings.append(str(json.loads(line)["text"]))
    progress = json.loads(last_progress) if last_progress else {}
    return Record(tuple(outputs.values()), tuple(previews.values()), progress, tuple(warnings), position)


def read_output(event: dict[str, Any]) -> Output:
    """Read an output event, or that of a preview."""
    said = event.get("style") or {}
    return Output(event["kind"], event["path"], event["title"], said, event.get("date", ""), event.get("key", ""))


def read_run(folder: Path) -> dict[str, Any]:
    """Read run.json; empty where the folder holds no run."""
    return _read_object(folder / "run.json")


def read_config(folder: Path) -> dict[str, Any]:
    """Read the parameters of a run; empty where the folder holds no run."""
    return _read_object(folder / "config.json")


def find_models(folder: Path) -> tuple[Model, ...]:
    """Find the model files that a run made."""
    found = (read_model(path) for path in sorted((folder / "outputs").glob("*.safetensors")))
    return tuple(model for model in found if model is not None)


def read_model(path: Path) -> Model | None:
    """Read the card in a model file's header; None where the file is no model of ours."""
    try:
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > HEADER_LIMIT:
                return None
            card = json.loads(json.loads(file.read(length))["__metadata__"]["rsfm"])
    except (OSError, ValueError, KeyError, struct.error):
        return None
    return Model(str(path), card.get("title") or path.stem, frozenset(_uses(card)))


def _read_object(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found


def _uses(card: dict[str, Any]) -> Iterator[str]:
    head, task = ((card.get("head") or {}).get(name) for name in ("name", "task"))
    if card.get("encoder") is not None:
        yield "encoder"
    if head == DETECTOR:
        yield "detector"
    elif task == "change":
        yield "change"
    elif head is not None:
        yield "any head"
        if card.get("objects") is None:  # what reads whole polygons cannot tell pixels
            yield "head"
