"""What the run was computed on, and how fast."""

from typing import Any

from rsfm.report_parts import paragraph, table
from rsfm.section import Record, Section

PRECISIONS = {
    "32-true": "fp32: all numbers of 32 bits",
    "bf16-mixed": "bf16: products of 16 bits, sums and weights of 32",
    "16-mixed": "fp16: products of 16 bits with a scaled loss, sums and weights of 32",
}


class Machine(Section):
    name = "machine"
    title = "Machine and speed"
    rank = 70

    def show(self, record: Record) -> str:
        found = record.shown("machine")
        if not found or "problem" in found:
            return paragraph(found["problem"], "warning") if found else ""
        rows = [
            ("Device", found["device"]),
            ("System", found["system"]),
            ("Arithmetic", PRECISIONS.get(found["precision"], found["precision"])),
            ("Network", "compiled" if found.get("compiled") else "not compiled"),
            ("Threads of the processor", str(found["threads"])),
            *_speed(found.get("position")),
            ("Memory that the process took at most", _of(found["peak_memory_bytes"], found["memory_bytes"])),
        ]
        if "gpu_memory_bytes" in found:
            used = _of(found["peak_gpu_memory_bytes"], found["gpu_memory_bytes"])
            rows.append(("GPU memory that it took at most", used))
        return table([], rows)


def _speed(position: dict[str, Any] | None) -> list[tuple[str, str]]:
    if not position or not position["seconds"]:
        return []
    minutes, seconds = divmod(round(position["seconds"]), 60)
    return [
        ("Time of training", f"{minutes} min {seconds} s"),
        ("Windows learned from", f"{position['windows']:,} in {position['step']:,} steps"),
        (
            "Speed",
            f"{position['windows'] / position['seconds']:,.0f} windows a second, reading and validation included",
        ),
    ]


def _of(used: float, whole: float) -> str:
    return f"{used / 2**30:.2f} of {whole / 2**30:.1f} GiB"
