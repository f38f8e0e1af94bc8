"""What a restart needs, in one file that is replaced, never edited. Reading it never unpickles."""

import os
from pathlib import Path
from typing import Any, NamedTuple

import torch

from rsfm.errors import UserError


class Position(NamedTuple):
    """Where a training stands: steps done, seconds spent, windows seen."""

    step: int = 0
    seconds: float = 0.0
    windows: int = 0


def save(folder: Path, method: torch.nn.Module, optimizer: torch.optim.Optimizer, position: Position) -> Path:
    """Write the state of a training, the random numbers included, and return the file."""
    state: dict[str, Any] = {
        "method": method.state_dict(),
        "optimizer": optimizer.state_dict(),
        "position": tuple(position),
        "random": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["random_cuda"] = torch.cuda.get_rng_state_all()
    path = folder / "last.pt"
    partial = folder / "last.pt.partial"
    try:
        torch.save(state, partial)
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise UserError(
            f"The checkpoint cannot be written to '{folder}' ({error.strerror}). Free some space."
        ) from error
    return path


def load(folder: Path, method: torch.nn.Module, optimizer: torch.optim.Optimizer) -> Position:
    """Restore a training and return where it stood; the start if there is no checkpoint."""
    path = folder / "last.pt"
    if not path.exists():
        return Position()
    state = torch.load(path, map_location="cpu", weights_only=True)
    method.load_state_dict(state["method"])
    optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["random"])
    if "random_cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["random_cuda"])
    return Position(*state["position"])
