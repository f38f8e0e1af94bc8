"""What a collection as a whole tells: its bands, its dates, and what to know before learning from it."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from qgis.PyQt.QtCore import QCoreApplication

from rsfm_qgis.collection import Entry, is_looked_at, is_usable
from rsfm_qgis.gui.imagery.model import is_doubtful, short_name, shown_date

NAMED = 3
RATIO = 2


class Findings(NamedTuple):
    """Sentences on a collection; `doubtful` counts the dates to be looked at."""

    bands: str
    dates: str
    warnings: list[str]
    doubtful: int


def find(entries: list[Entry]) -> Findings:
    """Look at the entries of a collection."""
    usable = [entry for entry in entries if is_usable(entry)]
    kinds = list(dict.fromkeys(tuple(band["name"] for band in entry["bands"]) for entry in usable))
    common = [name for name in next(iter(kinds), ()) if all(name in kind for kind in kinds)]
    warnings = [
        *_unusable(entries), *_unread(entries), *_crs(usable), *_pixels(usable), *_bands_differ(kinds, common)
    ]  # fmt: skip
    return Findings(" ".join(common), _dates(usable), warnings, sum(map(is_doubtful, entries)))


def _dates(usable: list[Entry]) -> str:
    days = sorted({shown_date(entry) for entry in usable if entry["date"]})
    unknown = sum(1 for entry in usable if not entry["date"])
    parts = []
    if days:
        parts.append(days[0] if len(days) == 1 else f"{days[0]} \u2026 {days[-1]}")
    if len(days) > 2:
        parts.append(_tr("{0} dates").format(len(days)))
    if unknown:
        parts.append(_tr("{0} without").format(unknown))
    return " \u00b7 ".join(parts)


def _unusable(entries: list[Entry]) -> list[str]:
    wrong = [entry for entry in entries if entry["problem"] and is_looked_at(entry) and entry["used"]]
    said = [_tr("{0} cannot be used: {1}").format(short_name(each["path"]), each["problem"]) for each in wrong[:NAMED]]
    if len(wrong) > NAMED:
        said.append(_tr("{0} more cannot be used; the table says why.").format(len(wrong) - NAMED))
    return said


def _unread(entries: list[Entry]) -> list[str]:
    count = sum(1 for entry in entries if not is_looked_at(entry))
    return [_counted(count, _tr("1 raster was not looked at yet."), _tr("{0} rasters were not looked at yet."))][:count]


def _crs(usable: list[Entry]) -> list[str]:
    systems = Counter(entry.get("crs", "") for entry in usable)
    count = len(usable) - max(systems.values(), default=0)
    one = _tr("1 raster has another CRS: it will be warped while reading (no copy is made).")
    many = _tr("{0} rasters have another CRS than most: they will be warped while reading (no copies are made).")
    return [_counted(count, one, many)][:count]


def _pixels(usable: list[Entry]) -> list[str]:
    sizes = [entry["gsd"] for entry in usable if entry.get("gsd")]
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
