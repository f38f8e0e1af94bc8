"""What a job will cost on this machine: how often it does something, how long, how much memory and disk.

A trial measures (`training/planner.py`, `map_trial.py`); what it found is remembered with the settings it holds for, so
that the same question is answered at once. The budget of a training is no such setting: it is counted with here.

No torch here: the server answers from what is remembered.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any, NamedTuple

from rsfm import __version__, memory
from rsfm.devices import list_devices
from rsfm.errors import UserError
from rsfm.runs import write_json
from rsfm.training.config import NO_BUDGET, TrainingConfig

TRAINED, MAPPED = frozenset({"pretrain"}), frozenset({"segment", "embed", "cluster", "classify", "detect_objects"})
MOST = 10**9
"""Windows, and steps, that a training may have."""
REMEMBERED = 500
SPARE_DISK = 2**28
UNSEEN = (
    "minutes", "epochs", "learning_rate", "weight_decay", "final_rate", "decay_growth", "warmup", "schedule",
    "compile",
)  # fmt: skip
"""Settings of a training that cost nothing."""


class Facts(NamedTuple):
    """What a trial found.

    Attributes:
        unit, amount: what is worked through, "windows" or "tiles".
        batch: units of a step.
        seconds: of a step; start_seconds before the first and end_seconds after the last.
        cpu_seconds: processor's time of a step; start_cpu_seconds before the first.
        memory, device_memory: bytes at the peak, of the process and on its GPU.
        disk: bytes of the outputs; checkpoint: of what is kept besides them while the run goes on.
        checkpoint_seconds: to write it.
        device: the name of that which was measured.
        notes: sentences on what was found.
    """

    unit: str
    amount: int
    batch: int
    seconds: float
    cpu_seconds: float
    start_seconds: float
    start_cpu_seconds: float
    end_seconds: float
    memory: int
    device_memory: int
    disk: int
    checkpoint: int
    checkpoint_seconds: float
    device: str
    notes: tuple[str, ...] = ()


class Plan(NamedTuple):
    """What a job will cost; processor's time besides, memory and disk in bytes, `warnings` in sentences."""

    unit: str
    amount: int
    steps: int
    seconds: float
    cpu_seconds: float
    memory: int
    device_memory: int
    disk: int
    device: str
    warnings: tuple[str, ...]


def make_plan(job: str, config: dict[str, Any], facts: Facts, folder: Path, every_seconds: float = 300) -> Plan:
    """Count what a job will cost.

    Args:
        folder: of the runs, whose disk is looked at.
        every_seconds: between two checkpoints.

    Raises:
        UserError: the counts are absurd.
    """
    steps, loop = -(-facts.amount // facts.batch), 0.0
    if job in TRAINED:
        training = TrainingConfig.model_validate(config.get("training", {}))
        check_counts(facts.amount, training)
        if training.minutes:
            loop = training.minutes * 60
            steps = max(1, int(loop / facts.seconds / (1 + facts.checkpoint_seconds / every_seconds)))
        else:
            steps = training.steps(facts.amount // training.batch_size)
    if not loop:
        loop = steps * facts.seconds
        loop += loop // every_seconds * facts.checkpoint_seconds
    if steps > MOST:
        raise UserError(f"That would be {steps:,} steps. Lower 'Epochs' or 'Samples'.", "training.epochs")
    return Plan(
        unit=facts.unit,
        amount=facts.amount,
        steps=steps,
        seconds=facts.start_seconds + loop + facts.end_seconds,
        cpu_seconds=facts.start_cpu_seconds + steps * facts.cpu_seconds + facts.end_seconds,
        memory=facts.memory,
        device_memory=facts.device_memory,
        disk=facts.disk + facts.checkpoint,
        device=facts.device,
        warnings=(*facts.notes, *_short(facts, folder)),
    )


def check_counts(windows: int, training: TrainingConfig) -> None:
    """Refuse a training whose numbers cannot be meant.

    Raises:
        UserError: naming what to change.
    """
    if training.is_endless:
        raise UserError(NO_BUDGET, "training.minutes")
    if windows > MOST:
        raise UserError(
            f"The rasters hold {windows:,} windows, more than {MOST:,}. Make 'Window' larger, or choose an 'Area'.",
            "window",
        )
    if training.batch_size > windows:
        raise UserError(
            f"A step takes {training.batch_size:,} windows and the rasters hold {windows:,}. Lower 'Batch size' to "
            f"{max(windows, 2):,} or less, make 'Window' smaller, or add rasters.",
            "training.batch_size",
        )


def recall(job: str, config: dict[str, Any]) -> Facts | None:
    """Return what an earlier trial found for these settings, files and devices; None where there was none."""
    found = _read().get(digest(job, config))
    try:
        return Facts(**{**found, "notes": tuple(found["notes"])}) if found else None
    except (TypeError, KeyError):
        return None


def remember(job: str, config: dict[str, Any], facts: Facts) -> None:
    """Keep what a trial found."""
    known = _read()
    known.pop(digest(job, config), None)
    kept = dict(list(known.items())[-REMEMBERED + 1 :])
    kept[digest(job, config)] = facts._asdict()
    remembered_file().parent.mkdir(parents=True, exist_ok=True)
    write_json(remembered_file(), kept)


def remembered_file() -> Path:
    """Return where plans are remembered: in RSFM_DATA, or in the folder of the user's own."""
    return Path(os.environ.get("RSFM_DATA") or Path.home() / "rsfm") / "plans.json"


def digest(job: str, config: dict[str, Any]) -> str:
    """Name all that the cost of a job depends on."""
    training = {name: value for name, value in (config.get("training") or {}).items() if name not in UNSEEN}
    settings = {**config, "training": training, "seed": 0}
    devices = [device["title"] for device in list_devices()]
    threads = os.environ.get("OMP_NUM_THREADS", "")
    told = json.dumps([job, settings, _stamps(config), devices, threads, __version__], sort_keys=True, default=str)
    return hashlib.sha256(told.encode()).hexdigest()[:32]


def _stamps(value: Any) -> list[Any]:
    """Return time and size of each file that a config names."""
    if isinstance(value, dict):
        return [stamp for part in value.values() for stamp in _stamps(part)]
    if isinstance(value, list):
        return [stamp for part in value for stamp in _stamps(part)]
    if not isinstance(value, str) or not value:
        return []
    try:
        found = Path(value.partition("|")[0]).stat()
    except (OSError, ValueError):
        return []
    return [[value, found.st_mtime_ns, found.st_size]]


def _read() -> dict[str, Any]:
    try:
        found = json.loads(remembered_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _short(facts: Facts, folder: Path) -> list[str]:
    """Warn where memory or disk will not do."""
    warnings = []
    there = next((parent for parent in [folder, *folder.parents] if parent.exists()), None)
    needed, free = facts.disk + 2 * facts.checkpoint, shutil.disk_usage(there).free if there else MOST * MOST
    if needed + SPARE_DISK > free:  # a checkpoint is written beside the one before
        warnings.append(
            f"The disk of '{folder}' has {size(free)} free and the run needs {size(needed)}. Free some space, or "
            "choose another folder under Settings > Options > RSFM."
        )
    if facts.memory > memory.available():
        warnings.append(
            f"The run needs {size(facts.memory)} of memory and {size(memory.available())} are free. Close other "
            "programs, or lower 'Batch size'."
        )
    return warnings


def size(count: float) -> str:
    """Write bytes as people do: "640 KB", "1.1 GB"."""
    for unit, bytes in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= bytes:
            return f"{count / bytes:.1f} {unit}" if count < 10 * bytes else f"{count / bytes:.0f} {unit}"
    return f"{max(count / 1e3, 1):.0f} KB"


def duration(seconds: float) -> str:
    """Write seconds as people do: "40 s", "12 min", "3 h 20 min", "2 days 4 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes // 1440} days {minutes % 1440 // 60} h"
