"""Layouts of published checkpoints: every one must be recognised and fill its encoder.

A folder holds a table a checkpoint: NAME.json with `top_level`, the entries of the file or null where the file is the
state itself, and `tensors`, names and shapes, or `states` with such a table for each of several. The files are made
here, with what training scripts put beside the weights.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rsfm.checkpoint_file import read_checkpoint
from rsfm.errors import UserError
from rsfm.golden import Case, Check, Golden
from rsfm.importer import compare, recognise

WHOLE = ("num_batches_tracked", "relative_position_index", "queue_ptr")
"""Endings of names of tensors that hold whole numbers."""


class CheckpointLayouts(Golden):
    name = "checkpoint_layouts"
    has_arrays = False

    def checks(self, case: Case) -> Iterator[Check]:
        """Count the tensors of each layout's encoder that are missing, of another shape or not known."""
        for path in sorted(case.folder.glob("*.json")):
            table = json.loads(path.read_text(encoding="utf-8"))
            with TemporaryDirectory() as folder:
                file = Path(folder) / "file.pth"
                write_layout(table, file)
                try:
                    _, found = recognise(read_checkpoint(str(file)))
                except UserError:
                    yield Check(path.stem, float("inf"), 0.0)
                    continue
                report = compare(found.backbone)
            wrong = len(report.missing) + len(report.unexpected) + len(report.misshapen)
            yield Check(f"{path.stem}, {len(report.matched)} tensors", float(wrong), 0.0)


def write_layout(table: dict[str, Any], path: Path) -> None:
    """Write a file of a layout whose tensors all share one number each, so that it stays small."""
    states = table.get("states") or split_geo(table)
    filled = {state: {key: small(key, shape) for key, shape in entries.items()} for state, entries in states.items()}
    write(path, filled if table["top_level"] else next(iter(filled.values())), table["top_level"])


def split_geo(table: dict[str, Any]) -> dict[str, dict[str, list[int]]]:
    """Return the tables of the states of a file; GASSL's places have one of their own."""
    top = table["top_level"] or ["flat"]
    main = next(key for key in ("state_dict", "model", "flat") if key in top)
    tensors = table["tensors"]
    states = {main: {key: shape for key, shape in tensors.items() if "::" not in key}}
    geo = {key.partition("::")[2]: shape for key, shape in tensors.items() if "::" in key}
    return states | ({"geo_dict": geo} if geo else {})


def small(key: str, shape: list[int]) -> Tensor:
    """Return a tensor of a shape that takes the room of one number."""
    dtype = torch.int64 if key.endswith(WHOLE) else torch.float32
    return torch.full((), 1, dtype=dtype).expand(shape)


def write(path: Path, content: dict[str, Any], top_level: list[str] | None) -> None:
    """Write a file with what training scripts put beside the weights: settings, numbers of numpy, an optimizer."""
    if top_level:
        beside = {
            "epoch": np.int64(99),
            "best_loss": np.float64(1.5),
            "arch": "resnet50",
            "args": argparse.Namespace(lr=1e-3, output_dir=Path("out"), epochs=np.int32(3)),
            "optimizer": {"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"lr": np.float32(0.1)}]},
            "scaler": {"scale": 65536.0, "_growth_tracker": 0},
        }
        content = {key: content.get(key, beside.get(key)) for key in top_level}
    torch.save(content, path)
