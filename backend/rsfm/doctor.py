"""`rsfm doctor`: each device tried with a real product, versions, memory, disks, and why the CPU is used if it is."""

import argparse
import json
import os
import platform
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from rsfm import PROTOCOL, __version__, device_queue, runs
from rsfm.device_check import check_device, gigabytes
from rsfm.devices import list_devices
from rsfm.run_options import read_options

LITTLE_DISK_BYTES = 5 * 2**30


def main(arguments: list[str]) -> int:
    """Print what was found; 0 where a device computes."""
    parser = argparse.ArgumentParser("rsfm doctor", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--runs", type=Path, help="folder of runs whose disk is looked at")
    options = parser.parse_args(arguments)
    found = examine(options.runs or Path(os.environ.get("RSFM_RUNS") or Path.home() / "rsfm" / "runs"))
    print(json.dumps(found, ensure_ascii=False) if options.json else describe(found))
    return 0 if any(not device["problem"] for device in found["devices"]) else 1


def examine(runs_folder: Path) -> dict[str, Any]:
    """Try all devices, and gather what tells why something does not work."""
    devices = [{**device, **check_device(device)._asdict()} for device in list_devices()]
    working = [device for device in devices if not device["problem"]]
    chosen = working[0]["name"] if working else ""
    memory = psutil.virtual_memory()
    return {
        "verdict": _verdict(devices, chosen),
        "device": chosen,
        "devices": devices,
        "versions": _versions(),
        "memory": {"total": memory.total, "free": memory.available},
        "disks": [_disk("Runs", runs_folder), _disk("Queue and what is learned of devices", device_queue.folder())],
        "settings": read_options()._asdict(),
        "queue": [
            {"title": runs.read(ticket.run)["title"], "run": str(ticket.run), "holds": ticket.holds}
            for ticket in device_queue.tickets()
            if (ticket.run / "run.json").is_file()
        ],
    }


def describe(found: dict[str, Any]) -> str:
    """Write down what was found, for people."""
    lines = [found["verdict"], "", "Devices"]
    for device in found["devices"]:
        driver = f", driver {device['driver']}" if device.get("driver") else ""
        memory = f"{gigabytes(device['free'])} of {gigabytes(device['memory'])} free"
        lines.append(f"  {device['name']}: {device['title']}, {memory}{driver}")
        lines.append(f"    {_product(device)}")
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    lines += ["", "Versions", f"  {versions}", "", "Memory and disks"]
    lines.append(f"  RAM: {gigabytes(found['memory']['free'])} of {gigabytes(found['memory']['total'])} free")
    for disk in found["disks"]:
        warning = f" \u2013 {disk['problem']}" if disk["problem"] else ""
        lines.append(f"  {disk['name']}, {disk['folder']}: {gigabytes(disk['free'])} free{warning}")
    lines += ["", "Runs that hold a device or wait for one"]
    lines += [f"  {each['title']}: {'runs' if each['holds'] else 'waits'}" for each in found["queue"]] or ["  none"]
    return "\n".join(lines)


def _product(device: dict[str, Any]) -> str:
    if device["problem"]:
        return f"cannot be used: {device['problem']}."
    side = device["side"]
    return f"a product of {side} x {side} matrices is right, in {device['milliseconds']} ms, {device['gflops']} GFLOP/s"


def _verdict(devices: list[dict[str, Any]], chosen: str) -> str:
    """Say what runs compute on, and why not on something faster."""
    gpus = [device for device in devices if device["name"] != "cpu"]
    if not chosen:
        return f"Nothing computes, not even the CPU: {devices[-1]['problem']}."
    if chosen != "cpu":
        best = next(device for device in devices if device["name"] == chosen)
        broken = [f"{gpu['name']}: {gpu['problem']}" for gpu in gpus if gpu["problem"]]
        return " ".join([f"Running on {best['title']}.", *(f"Not used: {text}." for text in broken)])
    if not gpus:
        return f"Running on the CPU because {_why_no_gpu()}."
    reasons = "; ".join(f"of {gpu['title']}, {gpu['problem']}" for gpu in gpus)
    return f"Running on the CPU because {reasons}."


def _why_no_gpu() -> str:
    if os.environ.get("CUDA_VISIBLE_DEVICES") in {"", "-1"}:
        return "CUDA_VISIBLE_DEVICES hides every GPU"
    command = shutil.which("nvidia-smi")
    if command is None:
        return "no NVIDIA or Apple GPU was found"
    try:
        done = subprocess.run([command, "-L"], capture_output=True, text=True, timeout=10)
        said = (done.stdout + done.stderr).strip().splitlines()
    except (OSError, subprocess.SubprocessError) as error:
        said = [str(error)]
    return f"the NVIDIA driver finds no GPU: {said[0].rstrip('.')}" if said else "the NVIDIA driver finds no GPU"


def _versions() -> dict[str, str]:
    found = {"RSFM": __version__, "protocol": str(PROTOCOL), "Python": platform.python_version()}
    with suppress(ImportError, OSError):
        import torch

        found |= {"torch": torch.__version__, "CUDA of torch": torch.version.cuda or "none"}
    with suppress(ImportError, OSError):
        import rasterio

        found |= {"rasterio": rasterio.__version__, "GDAL": rasterio.__gdal_version__}
    return {**found, "system": platform.platform()}


def _disk(name: str, folder: Path) -> dict[str, Any]:
    """Look at the disk of a folder that may not be there yet."""
    there = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    usage = shutil.disk_usage(there)
    problem = ""
    if not os.access(there, os.W_OK):
        problem = "cannot be written: choose another folder"
    elif usage.free < LITTLE_DISK_BYTES:
        problem = "little space is left for checkpoints and maps"
    return {"name": name, "folder": str(folder), "free": usage.free, "total": usage.total, "problem": problem}
