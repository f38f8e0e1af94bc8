"""Writes tensors as one .safetensors file that is whole, and on the disk, before it has its name."""

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
PIECE = 2**26
"""Bytes written between two looks at whether to go on."""


def write_tensors(path: Path, tensors: dict[str, Tensor], note: dict[str, str], check: Callable[[], None]) -> None:
    """Write tensors under a name, which until then holds what it held before, if anything.

    Unlike safetensors' own writer it can be given up halfway, and it has the disk confirm what was written.

    Args:
        tensors: contiguous, on the CPU.
        note: the file's metadata.
        check: raises to give up; called every few megabytes.

    Raises:
        OSError: the disk is full or gone; nothing is left of the new file.
    """
    partial = path.with_name(f"{path.name}.partial")
    header, at = {"__metadata__": note} if note else {}, 0
    for name, tensor in tensors.items():
        end = at + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [at, end]}  # type: ignore[dict-item]
        at = end
    try:
        with open(partial, "wb") as file:
            text = json.dumps(header).encode()
            text += b" " * (-len(text) % 8)
            file.write(struct.pack("<Q", len(text)) + text)
            for tensor in tensors.values():
                values = _bytes(tensor)
                for start in range(0, len(values), PIECE):
                    check()
                    file.write(values[start : start + PIECE])
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    _confirm_names(path.parent)


def _bytes(tensor: Tensor) -> memoryview:
    if not tensor.numel():
        return memoryview(b"")
    return tensor.reshape(-1).view(torch.uint8).numpy().data


def _confirm_names(folder: Path) -> None:
    """Have the disk confirm the names in a folder; Windows does so by itself."""
    if os.name != "nt":
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
