"""The report of a run: one HTML file without links to anything, readable by a person who was not there."""

import html
import json
from pathlib import Path
from typing import Any

from rsfm import curves, runs
from rsfm.result_words import NAMED_BY_THE_USER, show, title

STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:60em;margin:2em auto;padding:0 1em;
color:#1a1a1a;background:#fff}
table{border-collapse:collapse;margin:.5em 0 1.5em}td,th{border:1px solid #ccc;padding:.25em .7em;text-align:left}
th{background:#f2f2f2}td.number{text-align:right;font-variant-numeric:tabular-nums}h1{margin-bottom:0}
p.note{background:#eef5fb;border-left:4px solid #0072b2;padding:.5em 1em}
p.warning{background:#fdf3e3;border-left:4px solid #e69f00;padding:.5em 1em}
svg{background:#fafafa;border:1px solid #ddd}pre{background:#f7f7f7;padding:1em;overflow:auto}"""


def write_report(folder: Path, heading: str) -> None:
    """Write report.html of a run from what its folder says."""
    run = runs.read(folder)
    lines = (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()
    events = [json.loads(line) for line in lines]
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    parts = [f"<h1>{_text(heading)}</h1>", f"<p>{_text(_when(run))}</p>"]
    parts += [f"<p class={event['type']}>{_text(event['text'])}</p>" for event in events if "text" in event]
    result = {name: value for name, value in run.get("result", {}).items() if name != "sentence"}
    parts += ["<h2>Result</h2>", _value(result)] if result else []
    parts += _curves(events)
    outputs = {event["title"]: event["path"] for event in events if event["type"] == "output"}
    parts += ["<h2>Files</h2>", _value(outputs)] if outputs else []
    parts += ["<h2>Parameters</h2>", f"<pre>{_text(json.dumps(config, indent=1, ensure_ascii=False))}</pre>"]
    head = f"<meta charset=utf-8><title>{_text(heading)}</title><style>{STYLE}</style>"
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


def _value(value: Any, name: str = "") -> str:
    """Show a value: a table for a dict, a row for each entry; tables in a table become one with columns."""
    if not isinstance(value, dict):
        return _text(show(value, name))
    entries = list(value.values())
    if name and entries and all(isinstance(entry, dict) for entry in entries):
        columns = list(entries[0])
        heads = columns if name == "confusion" else [title(column) for column in columns]
        head = "".join(f"<th>{_text(column)}</th>" for column in ["", *heads])
        rows = [
            f"<tr><th>{_text(row)}</th>{''.join(_cell(entry.get(column), column) for column in columns)}</tr>"
            for row, entry in value.items()
        ]
        return f"<table><tr>{head}</tr>{''.join(rows)}</table>"
    named = name in NAMED_BY_THE_USER
    rows = [
        f"<tr><th>{_text(row if named else title(row))}</th>{_cell(entry, '' if named else row)}</tr>"
        for row, entry in value.items()
    ]
    return f"<table>{''.join(rows)}</table>"


def _cell(value: Any, name: str) -> str:
    if isinstance(value, dict):
        return f"<td>{_value(value, name)}</td>"
    kind = " class=number" if isinstance(value, int | float) and not isinstance(value, bool) else ""
    return f"<td{kind}>{_text(show(value, name))}</td>"


def _text(text: str) -> str:
    return html.escape(str(text))
