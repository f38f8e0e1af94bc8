"""Tries a device with a real product of matrices, and says in plain words what is wrong with one that fails."""

import shutil
import subprocess
import time
from typing import Any, NamedTuple

SIDE = {"cpu": 1024, "mps": 2048, "cuda": 4096}
ROWS = 8
REPEATS = 3
KNOWN_FAILURES = {
    "driver on your system is too old": "the driver {driver} is too old for torch {torch}, which is made for CUDA "
    "{cuda}: update the NVIDIA driver",
    "driver version is insufficient": "the driver {driver} is too old for torch {torch}, which is made for CUDA "
    "{cuda}: update the NVIDIA driver",
    "no NVIDIA driver": "its driver does not answer torch: install the NVIDIA driver, or restart the computer after "
    "an update of it",
    "not compiled with CUDA": "torch {torch} was built without CUDA: install the backend again on this computer, so "
    "that it gets the torch for its GPU",
    "no kernel image": "torch {torch} has no code for a GPU of this age: install the backend again with a torch that "
    "has",
    "out of memory": "other programs hold its memory, {free} of {memory} are free{holders}: close them, or wait until "
    "they end",
    "No CUDA GPUs are available": "torch does not see it: check CUDA_VISIBLE_DEVICES, and the rights of this user",
}


class Check(NamedTuple):
    """What the product on a device showed.

    Attributes:
        milliseconds, gflops: of one product of two matrices of `side` rows and columns.
        problem: why the device cannot be used, as the end of a sentence; empty where it works.
    """

    side: int = 0
    milliseconds: float = 0.0
    gflops: float = 0.0
    problem: str = ""


def check_device(device: dict[str, Any]) -> Check:
    """Multiply two matrices of small whole numbers on a device, and compare with their exact product."""
    try:
        return _multiply(device["name"])
    except (ImportError, OSError) as error:
        return Check(problem=f"torch cannot be loaded ({error}): install the backend again")
    except (RuntimeError, AssertionError) as error:
        return Check(problem=explain(device, str(error)))


def explain(device: dict[str, Any], error: str) -> str:
    """Say in plain words, as the end of a sentence, why a device does not compute."""
    import torch

    facts = {
        "driver": device.get("driver", ""),
        "torch": torch.__version__,
        "cuda": torch.version.cuda or "none",
        "free": gigabytes(device.get("free", 0)),
        "memory": gigabytes(device.get("memory", 0)),
        "holders": "",
    }
    for sign, sentence in KNOWN_FAILURES.items():
        if sign.lower() in error.lower():
            if "{holders}" in sentence and (names := holders(device.get("id", ""))):
                facts["holders"] = f" ({', '.join(names)})"
            return sentence.format(**facts)
    return f"it does not compute: {error.strip().splitlines()[0]}" if error.strip() else "it does not compute"


def holders(uuid: str) -> list[str]:
    """Name the programs that compute on an NVIDIA GPU, those with most memory first."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return []
    query = [command, "--query-compute-apps=gpu_uuid,pid,process_name,used_memory", "--format=csv,noheader,nounits"]
    try:
        lines = subprocess.run(query, capture_output=True, text=True, timeout=5, check=True).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return []
    found = []
    for parts in ([part.strip() for part in line.split(",")] for line in lines):
        if len(parts) == 4 and parts[0] == uuid:
            used = int(parts[3]) if parts[3].isdigit() else 0
            found.append((used, f"{parts[2]}, process {parts[1]}, {gigabytes(used * 2**20)}"))
    return [text for _, text in sorted(found, reverse=True)]


def gigabytes(size: float) -> str:
    """Write a number of bytes as people do."""
    return f"{size / 2**30:.1f} GB"


def _multiply(name: str) -> Check:
    import torch

    side = SIDE[name.split(":")[0]]
    random = torch.Generator().manual_seed(0)
    left_NN, right_NN = (torch.randint(-3, 4, (side, side), generator=random).float() for _ in range(2))
    expected_RN = left_NN[:ROWS].double() @ right_NN.double()  # exact: whole numbers below 2 ** 53
    here_NN, there_NN = left_NN.to(name), right_NN.to(name)
    seconds = []
    for _ in range(1 + REPEATS):
        _finish(name)
        started = time.perf_counter()
        product_NN = here_NN @ there_NN
        _finish(name)
        seconds.append(time.perf_counter() - started)
    if not torch.equal(product_NN[:ROWS].cpu().double(), expected_RN):
        return Check(side, problem="it computes a wrong product of two matrices: it may be broken or too hot")
    best = min(seconds[1:])
    return Check(side, round(best * 1000, 2), round(2 * side**3 / best / 1e9, 1))


def _finish(name: str) -> None:
    import torch

    if name.startswith("cuda"):
        torch.cuda.synchronize(name)
    elif name == "mps":
        torch.mps.synchronize()
