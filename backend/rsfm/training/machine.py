"""What a training ran on, and how fast."""

import platform
import sys
from importlib import metadata
from typing import Any

import psutil
import rasterio
import torch

from rsfm import __version__
from rsfm.devices import list_devices
from rsfm.training.checkpoint import Position

PACKAGES = ("torch", "lightning-fabric", "timm", "numpy", "rasterio", "safetensors", "pydantic")


def machine(device: torch.device, precision: str, compiled: bool, position: Position | None) -> dict[str, Any]:
    """Describe device, precision, memory, speed and software.

    Args:
        compiled: the network was.
        position: where the training ended, if that is known.
    """
    name = str(device)
    titles = {found["name"]: found["title"] for found in list_devices()}
    found: dict[str, Any] = {
        "device": titles.get(name, titles.get(f"{name}:0", name)),
        "system": platform.platform(),
        "precision": precision,
        "compiled": compiled,
        "threads": torch.get_num_threads(),
        "memory_bytes": psutil.virtual_memory().total,
        "peak_memory_bytes": peak_memory(),
        "software": {"rsfm": __version__, "python": platform.python_version(), **_versions()},
    }
    if device.type == "cuda":
        found["gpu_memory_bytes"] = torch.cuda.get_device_properties(device).total_memory
        found["peak_gpu_memory_bytes"] = torch.cuda.max_memory_allocated(device)
    if position is not None:
        found["position"] = position._asdict()
    return found


def peak_memory() -> int:
    """Return the most memory that this process has held, in bytes."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in PACKAGES} | {"gdal": rasterio.__gdal_version__}
