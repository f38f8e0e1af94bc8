"""Makes files as the authors' scripts write them, from the tables of names and shapes of the published ones."""

import argparse
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

GOLDEN = Path(os.environ.get("RSFM_GOLDEN", Path(__file__).parents[4] / "shared" / "golden"))
FOLDERS = ("checkpoint_layouts", "checkpoint_layouts_dino_family")
TABLES = {path.stem: path for folder in FOLDERS for path in sorted((GOLDEN / folder).glob("*.json"))}
WHOLE = ("num_batches_tracked", "relative_position_index", "queue_ptr")


def table(name: str) -> dict[str, Any]:
    """The table of a layout; skips where the tables are absent."""
    if name not in TABLES:
        pytest.skip(f"the tables of published checkpoints are not there: {GOLDEN} (set RSFM_GOLDEN)")
    found: dict[str, Any] = json.loads(TABLES[name].read_text(encoding="utf-8"))
    return found


def layouts() -> list[str]:
    return sorted(TABLES) or ["absent"]


def write_layout(name: str, path: Path) -> dict[str, Any]:
    """Write a file of a layout whose tensors all share one number each, so that it stays small; return its table."""
    found = table(name)
    states = found.get("states") or split_geo(found)
    filled = {state: {key: small(key, shape) for key, shape in entries.items()} for state, entries in states.items()}
    write(path, filled if found["top_level"] else next(iter(filled.values())), found["top_level"])
    return found


def split_geo(found: dict[str, Any]) -> dict[str, dict[str, list[int]]]:
    top = found["top_level"] or ["flat"]
    main = next(key for key in ("state_dict", "model", "flat") if key in top)
    tensors = found["tensors"]
    states = {main: {key: shape for key, shape in tensors.items() if "::" not in key}}
    geo = {key.partition("::")[2]: shape for key, shape in tensors.items() if "::" in key}
    return states | ({"geo_dict": geo} if geo else {})


def small(key: str, shape: list[int]) -> Tensor:
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
