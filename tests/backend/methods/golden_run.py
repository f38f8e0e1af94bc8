"""Runs `rsfm golden` on a folder and reads what it prints."""

import os
from pathlib import Path

import numpy as np
import pytest
from rsfm.golden import main

GOLDEN = Path(os.environ.get("RSFM_GOLDEN", Path(__file__).parents[4] / "shared" / "golden"))


def authors_folder(name: str) -> Path:
    """The folder of the authors' numbers; skips where it is absent."""
    if not (GOLDEN / name).is_dir():
        pytest.skip(f"the golden numbers are not there: {GOLDEN / name} (set RSFM_GOLDEN)")
    return GOLDEN / name


def change(folder: Path, name: str, place: int = 0, by: float = 1e-3) -> None:
    """Change one number of an array of a case, by its place in the flat array."""
    with np.load(folder / "case.npz") as file:
        arrays = dict(file)
    arrays[name].flat[place] += by
    np.savez(folder / "case.npz", **arrays)


def failures(folder: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines of what is over its tolerance or was not compared; empty if all is well."""
    code = main([str(folder)])
    lines = capsys.readouterr().out.splitlines()
    bad = [line for line in lines if line.endswith(("OVER", "not compared"))]
    return bad or ([] if code == 0 else ["the comparison ended with an error"])
