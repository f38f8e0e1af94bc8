"""What the sections of a report are made of: text, tables, rows of pictures, files to take away."""

import base64
import html
from collections.abc import Sequence
from typing import Any

from rsfm.result_words import NAMED_BY_THE_USER, show, title
from rsfm.section import Record

LONG = 44
"""Characters above which a name may be broken anywhere."""
PIXELATED_BELOW = 100
"""Side in pixels below which a picture is shown in large squares, not blurred."""


def text(value: Any) -> str:
    """Escape text for HTML."""
    return html.escape(str(value))


def paragraph(value: str, kind: str = "") -> str:
    return f'<p class="{kind}">{text(value)}</p>' if kind else f"<p>{text(value)}</p>"


def table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Make a table of rows whose first cell names them; numbers stand on the right."""
    head = "".join(f"<th>{text(name)}</th>" for name in heads)
    body = "".join(f"<tr>{_name(str(row[0]))}{''.join(_plain_cell(cell) for cell in row[1:])}</tr>" for row in rows)
    top = f"<tr>{head}</tr>" if heads else ""
    return f"<div class=wide><table>{top}{body}</table></div>"


def nested(value: Any, name: str = "") -> str:
    """Show a value: a table for a dict, a row for each entry; tables in a table become one with columns."""
    if not isinstance(value, dict):
        return text(show(value, name))
    entries = list(value.values())
    if name and entries and all(isinstance(entry, dict) for entry in entries):
        columns = list(entries[0])
        heads = columns if name in {"confusion", "from_to_m2"} else [title(column) for column in columns]
        head = "".join(f"<th>{text(column)}</th>" for column in ["", *heads])
        rows = [
            f"<tr><th>{text(row)}</th>{''.join(_cell(entry.get(column), column) for column in columns)}</tr>"
            for row, entry in value.items()
        ]
        return f"<table><tr>{head}</tr>{''.join(rows)}</table>"
    named = name in NAMED_BY_THE_USER
    rows = [
        f"<tr><th>{text(row if named else title(row))}</th>{_cell(entry, '' if named else row)}</tr>"
        for row, entry in value.items()
    ]
    return f"<table>{''.join(rows)}</table>"


def picture(source: str, alt: str, side: int = 0) -> str:
    """Show a picture under its words; those words alone where it is missing.

    Args:
        source: a URI that holds the picture, or nothing.
        side: of the picture in pixels; a small one is enlarged without blur.
    """
    if not source:
        return f"<span class=absent>{text(alt)}: not shown</span>"
    kind = " class=squares" if side < PIXELATED_BELOW else ""
    return f'<img{kind} src="{source}" alt="{text(alt)}">'


def picture_rows(record: Record, titles: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]], side: int) -> str:
    """Lay recorded pictures out in rows, under the titles of their columns.

    Args:
        rows: what a row is called, and the names of its files.
    """
    head = "".join(f"<th>{text(name)}</th>" for name in ["", *titles])
    body = "".join(
        f"<tr><th>{text(name)}</th>"
        + "".join(
            f"<td>{picture(record.recorded_picture(file), f'{name}: {words}', side)}</td>"
            for words, file in zip(titles, files, strict=True)
        )
        + "</tr>"
        for name, files in rows
    )
    return f"<div class=wide><table class=pictures><tr>{head}</tr>{body}</table></div>"


def download(name: str, content: str, words: str, kind: str = "application/json") -> str:
    """Make a link that saves text as a file; the text is in the link."""
    data = base64.b64encode(content.encode()).decode()
    return f'<a download="{text(name)}" href="data:{kind};base64,{data}">{text(words)}</a>'


def _name(name: str) -> str:
    kind = "long" if len(name) > LONG else "short"
    return f"<th class={kind}>{text(name)}</th>"


def _plain_cell(value: Any) -> str:
    kind = " class=number" if isinstance(value, int | float) and not isinstance(value, bool) else ""
    return f"<td{kind}>{text(show(value))}</td>"


def _cell(value: Any, name: str) -> str:
    if isinstance(value, dict):
        return f"<td>{nested(value, name)}</td>"
    kind = " class=number" if isinstance(value, int | float) and not isinstance(value, bool) else ""
    return f"<td{kind}>{text(show(value, name))}</td>"
