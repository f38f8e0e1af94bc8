"""What a collection as a whole tells: its bands, its dates, and what to know before learning from it."""

from __future__ import annotations

import os
from collections import Counter
from typing import Any, NamedTuple

from qgis.PyQt.QtCore import QCoreApplication

from rsfm_qgis.collection import Entry, is_looked_at, is_usable
from rsfm_qgis.gui.imagery.model import is_doubtful, short_name, shown_date

NAMED = 3
RATIO = 2
"""Pixel sizes that differ by more are not read on one grid."""


class Findings(NamedTuple):
    """What is said of a collection.

    Attributes:
        unread: how many rasters nobody has looked at.
        guessed, undated: how many rasters to learn from have an uncertain date, and none.
    """

    bands: str
    dates: str
    warnings: list[str]
    unread: int
    guessed: int
    undated: int


class _Seen:
    """What one pass over the entries counts; bands that are shared are counted once."""

    def __init__(self, entries: list[Entry]) -> None:
        self.wrong: list[Entry] = []
        self.days: Counter[str] = Counter()
        self.systems: Counter[str] = Counter()
        self.sizes: Counter[float] = Counter()
        self.unread = self.guessed = 0
        bands: dict[int, list[dict[str, Any]]] = {}
        for entry in entries:
            if is_usable(entry):
                self.days[shown_date(entry)] += 1
                self.systems[entry.get("crs", "")] += 1
                self.sizes[entry.get("gsd", 0)] += 1
                bands[id(entry["bands"])] = entry["bands"]
                self.guessed += bool(entry["date"]) and is_doubtful(entry)
            elif not is_looked_at(entry):
                self.unread += 1
            elif entry["problem"] and entry["used"]:
                self.wrong.append(entry)
        self.kinds = list(dict.fromkeys(tuple(band["name"] for band in each) for each in bands.values()))


def find(entries: list[Entry], is_busy: bool = False) -> Findings:
    """Look at the entries of a collection; the backend may be at it, too."""
    seen = _Seen(entries)
    common = [name for name in next(iter(seen.kinds), ()) if all(name in kind for kind in seen.kinds)]
    warnings = [
        *_unusable(seen.wrong), *_unread(seen.unread, is_busy), *_crs(seen.systems), *_pixels(seen.sizes),
        *_bands_differ(seen.kinds, common),
    ]  # fmt: skip
    return Findings(" ".join(common), _dates(seen.days), warnings, seen.unread, seen.guessed, seen.days[""])


def _dates(count: Counter[str]) -> str:
    days = sorted(day for day in count if day)
    parts = []
    if days:
        parts.append(days[0] if len(days) == 1 else f"{days[0]} \u2026 {days[-1]}")
    if len(days) > 2:
        parts.append(_tr("{0} dates").format(len(days)))
    if count[""]:
        parts.append(_tr("{0} without").format(count[""]))
    return " \u00b7 ".join(parts)


def _unusable(wrong: list[Entry]) -> list[str]:
    said = [_sentence(entry) for entry in wrong[:NAMED]]
    if len(wrong) > NAMED:
        said.append(_tr("{0} more cannot be used; the table says why.").format(len(wrong) - NAMED))
    return said


def _sentence(entry: Entry) -> str:
    """Say why a raster cannot be used, with its name once."""
    name, problem = short_name(entry["path"]), str(entry["problem"])
    return (
        problem if os.path.basename(entry["path"]) in problem else _tr("{0} cannot be used: {1}").format(name, problem)
    )


def _unread(count: int, is_busy: bool) -> list[str]:
    if is_busy:
        one, many = _tr("1 raster is being looked at\u2026"), _tr("{0} rasters are being looked at\u2026")
    else:
        one, many = _tr("1 raster was not looked at yet."), _tr("{0} rasters were not looked at yet.")
    return [_counted(count, one, many)][:count]


def _crs(systems: Counter[str]) -> list[str]:
    count = sum(systems.values()) - max(systems.values(), default=0)
    one = _tr("1 raster has another CRS: it will be warped while reading (no copy is made).")
    many = _tr("{0} rasters have another CRS than most: they will be warped while reading (no copies are made).")
    return [_counted(count, one, many)][:count]


def _pixels(count: Counter[float]) -> list[str]:
    sizes = [size for size in count if size]
    if not sizes or max(sizes) <= RATIO * min(sizes):
        return []
    text = _tr(
        "Pixels are of {0:.3g} to {1:.3g} m, a ratio of {2:.2g}: beyond twice the size, rasters are not learned from "
        "together as dates of one place."
    )
    return [text.format(min(sizes), max(sizes), max(sizes) / min(sizes))]


def _bands_differ(kinds: list[tuple[str, ...]], common: list[str]) -> list[str]:
    if len(kinds) < 2:
        return []
    if not common:
        return [_tr("No band is common to all rasters. Name the same bands alike with \u201cChange\u2026\u201d.")]
    return [_tr("Not all rasters have the same bands; those of all are used: {0}.").format(" ".join(common))]


def _counted(count: int, one: str, many: str) -> str:
    return one if count == 1 else many.format(count)


def _tr(text: str) -> str:
    return str(QCoreApplication.translate("Imagery", text))
