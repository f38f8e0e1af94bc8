"""Files as the authors' scripts write them, from the tables of names and shapes of the published ones."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from rsfm.goldens import checkpoint_layouts

GOLDEN = Path(os.environ.get("RSFM_GOLDEN", Path(__file__).parents[4] / "shared" / "golden"))
FOLDERS = ("checkpoint_layouts", "checkpoint_layouts_dino_family")
TABLES = {path.stem: path for folder in FOLDERS for path in sorted((GOLDEN / folder).glob("*.json"))}


def table(name: str) -> dict[str, Any]:
    """The table of a layout; skips where the tables are absent."""
    if name not in TABLES:
        pytest.skip(f"the tables of published checkpoints are not there: {GOLDEN} (set RSFM_GOLDEN)")
    found: dict[str, Any] = json.loads(TABLES[name].read_text(encoding="utf-8"))
    return found


def layouts() -> list[str]:
    return sorted(TABLES) or ["absent"]


def write_layout(name: str, path: Path) -> dict[str, Any]:
    """Write a small file of a layout; return its table."""
    found = table(name)
    checkpoint_layouts.write_layout(found, path)
    return found
