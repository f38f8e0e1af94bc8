"""Which devices this machine offers, found without importing torch, because the server must start at once."""

import os
import platform
import shutil
import subprocess
from typing import Any, Literal

import psutil

from rsfm.device_check import explain
from rsfm.errors import UserError
from rsfm.runs import Run

os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # torch then numbers GPUs as nvidia-smi does
NVIDIA_FACTS = "index,uuid,name,memory.total,memory.free,driver_version"


def list_devices() -> list[dict[str, Any]]:
    """List the devices, best first: name for torch, title for people, memory in bytes, why the CPU is used if it is.

    A GPU's `id` is the same for all processes, whatever CUDA_VISIBLE_DEVICES shows them.
    """
    gpus = _nvidia() or _apple()
    return [*gpus, _cpu(has_gpu=bool(gpus))]


def _cpu(has_gpu: bool) -> dict[str, Any]:
    memory = psutil.virtual_memory()
    why = "" if has_gpu else "Running on the CPU because no NVIDIA or Apple GPU was found."
    title = f"CPU, {os.cpu_count()} cores"
    return {"name": "cpu", "id": "cpu", "title": title, "memory": memory.total, "free": memory.available, "why": why}


def _nvidia() -> list[dict[str, Any]]:
    command = shutil.which("nvidia-smi")
    if command is None:
        return []
    query = [command, f"--query-gpu={NVIDIA_FACTS}", "--format=csv,noheader,nounits"]
    try:
        lines = subprocess.run(query, capture_output=True, text=True, timeout=5, check=True).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return []
    devices = []
    for number, line in enumerate(_visible(lines)):
        _, uuid, name, total, free, driver = (part.strip() for part in line.split(","))
        devices.append(
            {
                "name": f"cuda:{number}",
                "id": uuid,
                "title": name,
                "memory": int(float(total) * 2**20),
                "free": int(float(free) * 2**20),
                "driver": driver,
            }
        )
    return sorted(devices, key=lambda device: -int(device["free"]))


def _visible(lines: list[str]) -> list[str]:
    """Keep the GPUs that CUDA_VISIBLE_DEVICES lets torch see, in its order."""
    said = os.environ.get("CUDA_VISIBLE_DEVICES")
    if said is None:
        return lines
    parts = [[part.strip() for part in line.split(",")][:2] for line in lines]
    found = []
    for wanted in (entry.strip() for entry in said.split(",")):
        index = [index for index, own in enumerate(parts) if wanted == own[0] or (wanted and own[1].startswith(wanted))]
        if not index:  # CUDA ends the list at the first that is not there
            break
        found.append(lines[index[0]])
    return found


def _apple() -> list[dict[str, Any]]:
    if platform.system() != "Darwin" or platform.machine() != "arm64":
        return []
    memory = psutil.virtual_memory()
    return [{"name": "mps", "id": "mps", "title": "Apple GPU", "memory": memory.total, "free": memory.available}]


def choose_device(wanted: str, run: Run | None = None) -> str:
    """Resolve "auto" or a device's name to one that works, proven by a small matrix product on it.

    Raises:
        UserError: the wanted device is absent or does not compute.
    """
    import torch

    candidates = [device["name"] for device in list_devices()] if wanted == "auto" else [wanted]
    if wanted == "auto" and (mine := os.environ.get("RSFM_DEVICE", "")):  # the one that this run waited for
        candidates = [mine, *(name for name in candidates if name != mine)]
    local = os.environ.get("LOCAL_RANK", "")  # each process of torchrun takes a GPU of its own
    if wanted == "auto" and local and (gpus := torch.cuda.device_count()):
        candidates = [f"cuda:{int(local) % gpus}", *candidates]
    for name in candidates:
        try:
            ones = torch.ones(8, 8, device=name)
            if float((ones @ ones).sum()) == 512:
                if run is not None:
                    run.device(name)
                return name
        except (RuntimeError, AssertionError) as error:
            text = str(error).splitlines()[0]
            if wanted != "auto":
                known = ", ".join(device["name"] for device in list_devices())
                raise UserError(
                    f"The device '{wanted}' does not compute: {text}. Choose one of: {known}.", "device"
                ) from error
            if run is not None:
                device = next((device for device in list_devices() if device["name"] == name), {})
                run.warning(f"{name} is not used: {explain(device, str(error))}. Trying the next device.")
    raise UserError("No device computes, not even the CPU. Reinstall the backend.", "device")


def precision(device: str) -> Literal["32-true", "bf16-mixed", "16-mixed"]:
    """Choose the arithmetic of training: bf16 where the device has it, else fp16 on NVIDIA GPUs and fp32 elsewhere."""
    import torch

    if device == "cpu":
        return "bf16-mixed" if torch.cpu._is_avx512_bf16_supported() else "32-true"
    if not device.startswith("cuda"):
        return "32-true"
    return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
