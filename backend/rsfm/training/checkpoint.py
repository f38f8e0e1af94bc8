"""What a restart needs: weights, averages and queues, the optimizer, the scaler, random numbers, and the position.

A checkpoint is one .safetensors file, "step_000001200.safetensors"; the one before it stays. Reading never unpickles.
Windows are drawn from the number of the step, and all else that is random follows torch's own random numbers.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from rsfm import __version__
from rsfm.errors import UserError
from rsfm.training.tensor_file import write_tensors

NOTE = "rsfm_checkpoint"
FORMAT = 1
KEPT = 2
OLD = "last.pt"
"""What earlier versions wrote."""


class Position(NamedTuple):
    """Where a training stands: steps done, seconds spent, windows seen."""

    step: int = 0
    seconds: float = 0.0
    windows: int = 0


class Training(NamedTuple):
    """What changes from step to step: a method and its optimizer, on their device and in their memory format.

    Attributes:
        scaler: of the loss in fp16; None in other precisions.
    """

    method: torch.nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler | None = None


class Snapshot(NamedTuple):
    """A training as it was between two steps, apart from the tensors that go on changing.

    Attributes:
        tensors: "method.NAME", "optimizer.ENTRY.NAME" and "random.DEVICE", on the CPU.
        values: what is no tensor, as JSON.
        learned: names of the tensors that the optimizer changes.
    """

    tensors: dict[str, Tensor]
    values: dict[str, Any]
    learned: tuple[str, ...]
    position: Position


def snapshot(training: Training, position: Position) -> Snapshot:
    """Copy the state of a training, the random numbers included."""
    method, optimizer, scaler = training
    tensors = {f"method.{name}": tensor for name, tensor in method.state_dict().items()}
    plain: dict[str, dict[str, Any]] = {}
    names = _names(method, optimizer)
    for index, entries in optimizer.state_dict()["state"].items():
        for key, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{key}.{names[index]}"] = value
            else:
                plain.setdefault(names[index], {})[key] = value
    values = {
        "format": FORMAT,
        "version": __version__,
        "position": position._asdict(),
        "optimizer": plain,
        "scaler": scaler.state_dict() if scaler else {},
    }
    learned = tuple(f"method.{name}" for name in names)
    return Snapshot(
        {name: _copied(value) for name, value in (tensors | _random(method)).items()}, values, learned, position
    )


def write(folder: Path, state: Snapshot, check: Callable[[], None] = lambda: None) -> Path:
    """Write a snapshot and remove all but the one before it; return the file.

    Raises:
        UserError: weights are not finite, or the disk is full; the checkpoints that are there stay.
    """
    if not all(bool(torch.isfinite(state.tensors[name].sum())) for name in state.learned):
        raise UserError(
            f"Weights are no longer finite after step {state.position.step}. {describe(folder)} "
            "Lower the 'Learning rate' and press Run again.",
            "training.learning_rate",
        )
    path = folder / f"step_{state.position.step:09d}.safetensors"
    try:
        write_tensors(path, state.tensors, {NOTE: json.dumps(state.values)}, check)
    except OSError as error:
        raise UserError(
            f"The checkpoint cannot be written to '{folder}' ({error.strerror}). {describe(folder)} "
            "Free some space and resume the run."
        ) from error
    for old in [*find(folder)[KEPT:], folder / OLD]:
        old.unlink(missing_ok=True)
    return path


def find(folder: Path) -> list[Path]:
    """Return the checkpoints of a folder, newest first."""
    return sorted(folder.glob("step_*.safetensors"), reverse=True)


def describe(folder: Path) -> str:
    """Name the newest checkpoint of a folder in a sentence."""
    found = find(folder)
    if not found:
        return "There is no checkpoint yet."
    return f"The checkpoint of step {int(found[0].stem.removeprefix('step_'))} is kept."


def load(folder: Path, training: Training, warn: Callable[[str], None]) -> Position:
    """Restore a training and return where it stood; the start if there is no checkpoint.

    A checkpoint that is cut off is removed, with a warning, where the one before it can be read.

    Raises:
        UserError: no checkpoint can be read, or it is of another training.
    """
    broken: list[Path] = []
    for path in find(folder):
        try:
            tensors, values = _read(path)
        except (SafetensorError, OSError, KeyError, ValueError):
            broken.append(path)
            continue
        position = _restore(path, tensors, values, training)
        for file in broken:
            file.unlink()
            warn(f"The checkpoint '{file.name}' is cut off. The run goes on from the one before, step {position.step}.")
        return position
    if broken:
        raise UserError(
            f"The checkpoint '{broken[0].name}' is cut off or of another program, and there is none before it. "
            "Press Run to start anew."
        )
    return _load_old(folder / OLD, training) if (folder / OLD).exists() else Position()


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    with safe_open(path, framework="pt") as file:
        values = json.loads(file.metadata()[NOTE])
        return {name: file.get_tensor(name) for name in file.keys()}, values  # noqa: SIM118


def _restore(path: Path, tensors: dict[str, Tensor], values: dict[str, Any], training: Training) -> Position:
    method, optimizer, scaler = training
    if values["format"] > FORMAT:
        raise UserError(
            f"The checkpoint '{path.name}' was made by RSFM {values['version']}, later than this {__version__}. "
            "Update the backend under Settings > Options > RSFM."
        )
    try:
        method.load_state_dict(_part(tensors, "method"))
        _restore_optimizer(_part(tensors, "optimizer"), values["optimizer"], method, optimizer)
    except (RuntimeError, KeyError) as error:
        raise UserError(
            f"The checkpoint '{path.name}' is of another training: {str(error).splitlines()[-1].strip()} "
            "Press Run to start anew, or give the run's config.json its method and encoder back."
        ) from error
    if scaler and values["scaler"]:
        scaler.load_state_dict(values["scaler"])
    _restore_random(_part(tensors, "random"), method)
    return Position(**values["position"])


def _restore_optimizer(
    tensors: dict[str, Tensor], plain: dict[str, Any], method: torch.nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    """Give the optimizer its state, laid out in memory as the weights are: fused steps take both in one order."""
    names = _names(method, optimizer)
    entries: dict[str, dict[str, Any]] = {name: dict(plain.get(name, {})) for name in names}
    for key_name, tensor in tensors.items():
        key, name = key_name.split(".", 1)
        entries[name][key] = tensor
    groups = optimizer.state_dict()["param_groups"]
    state = {index: entries[name] for index, name in enumerate(names) if entries[name]}
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    for parameter, restored in optimizer.state.items():
        for key, value in restored.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape and value.ndim:
                restored[key] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _names(method: torch.nn.Module, optimizer: torch.optim.Optimizer) -> list[str]:
    """Name the optimizer's parameters, in its order."""
    known = {id(parameter): name for name, parameter in method.named_parameters()}
    return [known[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]]


def _random(method: torch.nn.Module) -> dict[str, Tensor]:
    """Return where the random numbers stand, of the CPU and of the device of a method."""
    found, device = {"random.cpu": torch.get_rng_state()}, next(method.parameters()).device
    if device.type == "cuda":
        found["random.cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        found["random.mps"] = torch.mps.get_rng_state()
    return found


def _restore_random(states: dict[str, Tensor], method: torch.nn.Module) -> None:
    device = next(method.parameters()).device
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
    elif device.type == "mps" and "mps" in states:
        torch.mps.set_rng_state(states["mps"])


def _copied(tensor: Tensor) -> Tensor:
    """Copy a tensor to the CPU, its values in the order of its dimensions."""
    return torch.empty(tensor.shape, dtype=tensor.dtype).copy_(tensor.detach())


def _part(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}


def _load_old(path: Path, training: Training) -> Position:
    """Restore what an earlier version wrote, with the loader of torch that reads tensors alone."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        tensors = {f"method.{name}": tensor for name, tensor in state["method"].items()}
        names, plain = _names(training.method, training.optimizer), dict[str, dict[str, Any]]()
        for index, entries in state["optimizer"]["state"].items():
            for key, value in entries.items():
                if isinstance(value, Tensor):
                    tensors[f"optimizer.{key}.{names[index]}"] = value
                else:
                    plain.setdefault(names[index], {})[key] = value
        tensors["random.cpu"] = state["random"]
        position = Position(*state["position"])
    except Exception as error:
        raise UserError(
            f"The checkpoint '{path.name}' of an earlier version cannot be read. Press Run to start anew."
        ) from error
    values = {"format": FORMAT, "optimizer": plain, "scaler": {}, "position": position._asdict()}
    return _restore(path, tensors, values, training)
