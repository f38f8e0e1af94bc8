"""Reads files of weights that others made, without running anything that is in them.

torch.load runs with weights_only=True: it makes tensors, plain containers and the few classes named here, which hold
settings and numbers alone. There is no way around this list; a file that needs more is refused.
"""

import argparse
import pathlib
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from rsfm.errors import UserError

NUMBERS = ("Float64", "Float32", "Float16", "Int64", "Int32", "Int16", "Int8", "UInt8", "Bool")
SCALAR = np.float64(0).__reduce__()[0]
ALLOWED: list[Any] = [
    argparse.Namespace,
    np.dtype,
    *(getattr(np.dtypes, f"{kind}DType") for kind in NUMBERS),
    (SCALAR, "numpy.core.multiarray.scalar"),
    (SCALAR, "numpy._core.multiarray.scalar"),
    *((pathlib.PurePosixPath, f"pathlib{part}.PosixPath") for part in ("", "._local")),
    *((pathlib.PureWindowsPath, f"pathlib{part}.WindowsPath") for part in ("", "._local")),
]


class Checkpoint(NamedTuple):
    """What a file holds.

    Attributes:
        states: tensors by name, by the entry of the file that holds them; "" where the file is the state itself.
        settings: what the authors' script was started with, if the file tells.
    """

    path: Path
    states: dict[str, dict[str, Tensor]]
    settings: dict[str, Any]


def read_checkpoint(path: str, field: str = "checkpoint") -> Checkpoint:
    """Read a file of any extension.

    Raises:
        UserError: it is absent, is no such file, or holds objects that are not on the list.
    """
    file = Path(path)
    if not file.is_file():
        raise UserError(f"There is no file '{path}'. Choose one under 'Checkpoint'.", field)
    content = _load(file, field)
    if not isinstance(content, Mapping):
        raise UserError(
            f"'{file.name}' holds a {type(content).__name__}, not weights by name. Choose another under 'Checkpoint'.",
            field,
        )
    if _is_state(content):
        return Checkpoint(file, {"": dict(content)}, {})
    states = {str(name): dict(value) for name, value in content.items() if _is_state(value)}
    if not states:
        raise UserError(
            f"'{file.name}' holds {', '.join(map(str, list(content)[:8])) or 'nothing'}, and none of it is weights by "
            "name. Choose a checkpoint under 'Checkpoint'.",
            field,
        )
    settings = content.get("args")
    return Checkpoint(file, states, dict(vars(settings)) if isinstance(settings, argparse.Namespace) else {})


def _load(file: Path, field: str) -> Any:
    try:
        with file.open("rb") as opened:
            start = opened.read(9)
            if start[8:9] == b"{":  # the length of a header, then the header: safetensors
                return load_file(file)
            opened.seek(0)
            lazy = zipfile.is_zipfile(file) and file.suffix != ".safetensors"  # torch goes by that extension
            with torch.serialization.safe_globals(ALLOWED):
                return torch.load(str(file) if lazy else opened, map_location="cpu", weights_only=True, mmap=lazy)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        if found is None:
            raise _unreadable(file, field) from error
        raise UserError(
            f"'{file.name}' holds an object of '{found.group(1)}', which could run code on this computer and is not "
            "loaded. Ask its authors for weights alone (.safetensors), or choose another file under 'Checkpoint'.",
            field,
        ) from error
    except (
        OSError,
        RuntimeError,
        EOFError,
        LookupError,
        ValueError,
        AttributeError,
        TypeError,
        SafetensorError,
    ) as error:
        raise _unreadable(file, field) from error


def _unreadable(file: Path, field: str) -> UserError:
    return UserError(
        f"'{file.name}' cannot be read as weights of PyTorch or safetensors. It may be damaged, or another kind of "
        "file; choose one under 'Checkpoint'.",
        field,
    )


def _is_state(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and len(value) > 0
        and all(isinstance(key, str) and isinstance(part, Tensor) for key, part in value.items())
    )
