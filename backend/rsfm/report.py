"""The report of a run: one HTML file without links to anything, readable by a person who was not there."""

import html
import json
from pathlib import Path
from typing import Any

from rsfm import curves, runs

STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:60em;margin:2em auto;padding:0 1em;
color:#1a1a1a;background:#fff}
table{border-collapse:collapse;margin:.5em 0 1.5em}td,th{border:1px solid #ccc;padding:.25em .7em;text-align:left}
th{background:#f2f2f2}td.number{text-align:right;font-variant-numeric:tabular-nums}h1{margin-bottom:0}
p.note{background:#eef5fb;border-left:4px solid #0072b2;padding:.5em 1em}
p.warning{background:#fdf3e3;border-left:4px solid #e69f00;padding:.5em 1em}
svg{background:#fafafa;border:1px solid #ddd}pre{background:#f7f7f7;padding:1em;overflow:auto}"""
WORDS = {
    "mean_iou_polygons": "Mean IoU on held-out polygons (cross-validation)",
    "mean_iou_blocks": "Mean IoU on held-out blocks",
    "accuracy_polygons": "Overall accuracy by cross-validation over polygons",
    "accuracy_blocks": "Overall accuracy on held-out blocks",
    "classes": "Classes on held-out blocks",
    "confusion": "Pixels on held-out blocks: truth in rows, map in columns",
    "iou": "IoU",
    "f1": "F1",
    "area_m2": "Area, m²",
}


def write_report(folder: Path, title: str) -> None:
    """Write report.html of a run from what its folder says."""
    run = runs.read(folder)
    lines = (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()
    events = [json.loads(line) for line in lines]
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    parts = [f"<h1>{_text(title)}</h1>", f"<p>{_text(_when(run))}</p>"]
    parts += [f"<p class={event['type']}>{_text(event['text'])}</p>" for event in events if "text" in event]
    result = {name: value for name, value in run.get("result", {}).items() if name != "sentence"}
    parts += ["<h2>Result</h2>", _value(result)] if result else []
    parts += _curves(events)
    outputs = {event["title"]: event["path"] for event in events if event["type"] == "output"}
    parts += ["<h2>Files</h2>", _value(outputs)] if outputs else []
    parts += ["<h2>Parameters</h2>", f"<pre>{_text(json.dumps(config, indent=1, ensure_ascii=False))}</pre>"]
    head = f"<meta charset=utf-8><title>{_text(title)}</title><style>{STYLE}</style>"
    runs.write_text(folder / "report.html", f"<!doctype html><html lang=en>{head}<body>{''.join(parts)}</body></html>")


def _when(run: dict[str, Any]) -> str:
    device = run.get("device", "no device")
    ended = run.get("ended", "").replace("T", " ")[:16]
    return f"{run['state'].capitalize()} on {ended} UTC, device {device}, RSFM {run['version']}."


def _curves(events: list[dict[str, Any]]) -> list[str]:
    series: dict[str, list[tuple[float, float]]] = {}
    for event in events:
        if event["type"] == "metric":
            series.setdefault(event["name"], []).append((event["step"], event["value"]))
    total = series.get("loss")
    shown = {name: points for name, points in series.items() if name == "loss" or points != total}  # a single part
    drawn = [curves.draw(name, points) for name, points in shown.items() if len(points) > 1]
    return ["<h2>Training</h2>", *drawn] if drawn else []


def _value(value: Any) -> str:
    """Show a value: a table for a dict, a row for each entry; a table of tables becomes one with columns."""
    if isinstance(value, dict):
        entries = list(value.values())
        if entries and all(isinstance(entry, dict) for entry in entries):
            columns = list(entries[0])
            head = "".join(f"<th>{_text(_word(column))}</th>" for column in ["", *columns])
            rows = [
                f"<tr><th>{_text(name)}</th>{''.join(_cell(entry.get(column)) for column in columns)}</tr>"
                for name, entry in value.items()
            ]
            return f"<table><tr>{head}</tr>{''.join(rows)}</table>"
        rows = [f"<tr><th>{_text(_word(str(name)))}</th>{_cell(entry)}</tr>" for name, entry in value.items()]
        return f"<table>{''.join(rows)}</table>"
    return _text(_show(value))


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return f"<td>{_value(value)}</td>"
    kind = " class=number" if isinstance(value, int | float) and not isinstance(value, bool) else ""
    return f"<td{kind}>{_text(_show(value))}</td>"


def _show(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.3f}" if abs(value) < 100 else f"{value:,.0f}"
    if isinstance(value, list):
        return "; ".join(_show(part) for part in value)
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _word(name: str) -> str:
    return WORDS.get(name, name.replace("_", " ").capitalize() if name.islower() else name)


def _text(text: str) -> str:
    return html.escape(str(text))
