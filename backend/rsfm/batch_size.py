"""How many tiles a batch holds: what the memory allows on the CPU, what a trial finds fastest elsewhere.

What a trial found is remembered for each model, tile and device.
"""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor, nn

from rsfm.runs import write_json

CPU_BATCH, USUAL_SIDE = 4, 256
"""More pixels are no faster on a CPU, and the same number everywhere gives the same pixels everywhere."""
CPU_SHARE, DEVICE_SHARE = 0.5, 0.9
"""Of the free memory."""
LARGEST, LEAST_GAIN, REPEATS = 256, 1.05, 3


def choose_batch(network: nn.Module, bands: int, side: int, device: str, key: str) -> int:
    """Return the number of tiles to run at once.

    Args:
        network: on the device.
        side: of a tile, in pixels.
        key: names the model.
    """
    if device == "cpu":
        return fit_memory(network, bands, side, psutil.virtual_memory().available)
    file, name = remembered_file(), f"{key} {side} {torch.get_device_module(device).get_device_name(device)}"
    known = _read(file)
    if name not in known:
        known[name] = find_fastest(lambda size: _measure(network, bands, side, device, size))
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, known)
    return int(known[name])


def remembered_file() -> Path:
    """Return where batch sizes are remembered: in RSFM_DATA, or in the folder of the user's own."""
    return Path(os.environ.get("RSFM_DATA") or Path.home() / "rsfm") / "batch_sizes.json"


def fit_memory(network: nn.Module, bands: int, side: int, available: int) -> int:
    """Return the usual batch of the CPU, more for small tiles, less where it would take too much of the memory."""
    tile_bytes = _tile_bytes(network, bands, side)
    usual = min(max(CPU_BATCH, CPU_BATCH * USUAL_SIDE**2 // side**2), LARGEST)
    return max(1, min(usual, int(CPU_SHARE * available) // tile_bytes))


def find_fastest(seconds: Callable[[int], float | None]) -> int:
    """Double the batch as long as that is faster by a twentieth.

    Args:
        seconds: of a batch of some tiles; None when it does not fit.
    """
    best, best_rate, size = 1, 0.0, 1
    while size <= LARGEST:
        taken = seconds(size)
        if taken is None or size / taken < best_rate * LEAST_GAIN:
            break
        best, best_rate, size = size, size / taken, size * 2
    return best


def _measure(network: nn.Module, bands: int, side: int, device: str, size: int) -> float | None:
    """Return the seconds of a batch, or None if it takes more than its share of the memory."""
    module = torch.get_device_module(device)
    try:
        pixels_BCSS, valid_BSS = _tiles(bands, side, device, size)
        with torch.inference_mode():
            network(pixels_BCSS, valid_BSS)  # the first one also chooses kernels
            module.synchronize()
            started = time.perf_counter()
            for _ in range(REPEATS):
                network(pixels_BCSS, valid_BSS)
            module.synchronize()
        taken = (time.perf_counter() - started) / REPEATS
    except torch.OutOfMemoryError:
        return None
    finally:
        module.empty_cache()
    peak, (_, total) = torch.cuda.max_memory_allocated(device), torch.cuda.mem_get_info(device)
    return None if peak > DEVICE_SHARE * total else taken


def _tile_bytes(network: nn.Module, bands: int, side: int) -> int:
    """Return the bytes of all that the parts of a network return for one tile: more than is held at once."""
    found = [bands * side * side * 4]

    def note(_: nn.Module, __: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            found.append(output.nbytes)

    hooks = [part.register_forward_hook(note) for part in network.modules() if not list(part.children())]
    try:
        with torch.inference_mode():
            network(*_tiles(bands, side, "cpu", 1))
    finally:
        for hook in hooks:
            hook.remove()
    return sum(found)


def _tiles(bands: int, side: int, device: str, size: int) -> tuple[Tensor, Tensor]:
    pixels_BCSS = torch.zeros((size, bands, side, side), device=device)
    return pixels_BCSS, torch.ones((size, side, side), dtype=torch.bool, device=device)


def _read(file: Path) -> dict[str, int]:
    try:
        found: dict[str, int] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found
