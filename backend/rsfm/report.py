"""The report of a run: one HTML file without links to anything, readable by a person who was not there."""

import logging
import traceback
from pathlib import Path
from typing import Any

from rsfm import registry, runs, sections
from rsfm.report_parts import paragraph, text
from rsfm.report_style import STYLE
from rsfm.section import Record, Section

log = logging.getLogger(__name__)


def write_report(folder: Path, heading: str) -> None:
    """Write report.html of a run from what its folder says; a section that fails is a sentence in it."""
    record = Record(folder)
    parts = [f"<h1>{text(heading)}</h1>", paragraph(_when(record.run))]
    told = _told(record)
    found = (record.run.get("result") or {}).get("sentence", "")
    if found and found not in dict(told):
        told.insert(0, (found, "note"))
    parts += [paragraph(words, kind) for words, kind in told]
    members = registry.members(sections, Section).values()  # type: ignore[type-abstract]
    for section in sorted(members, key=lambda section: section.rank):
        shown = _show(section, record)
        parts += [f'<section id="{section.name}"><h2>{text(section.title)}</h2>{shown}</section>'] if shown else []
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{text(heading)}</title><style>{STYLE}</style>"
    )
    page = f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>'
    runs.write_text(folder / "report.html", page)


def _show(section: type[Section], record: Record) -> str:
    try:
        return section().show(record)
    except Exception as error:
        log.warning("The report's section '%s' failed.\n%s", section.name, traceback.format_exc())
        problem = f"This section could not be made ({type(error).__name__}). The run's log has the details."
        return paragraph(problem, "warning")


def _told(record: Record) -> list[tuple[str, str]]:
    """Return what the run said and in which kind of event, but for notes that the section of the pair repeats."""
    findings = {f"{each['topic']}: {each['text']}" for each in record.shown("pair").get("findings", [])}
    told = [(event["text"], event["type"]) for event in record.events if "text" in event]
    return [(words, kind) for words, kind in told if kind != "note" or words not in findings]


def _when(run: dict[str, Any]) -> str:
    """Say how the run ended, when, on which device, if a network ran on one, and by which version."""
    device = f", device {run['device']}" if run.get("device") else ""
    ended = run.get("ended", "").replace("T", " ")[:16]
    return f"{run['state'].capitalize()} on {ended} UTC{device}, RSFM {run['version']}."
