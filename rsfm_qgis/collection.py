"""A collection's file as the plugin sees it: what the backend's job `collect` found, and what the user said about it.

No Qt. Long work is written as generators, one step an entry, so that 10,000 rasters never keep QGIS waiting; an entry
keeps the text it has in the file, so that saving encodes only what was changed.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Container, Iterable, Iterator, Sequence
from itertools import compress
from pathlib import Path
from typing import Any

SUFFIX = ".collection.json"
FORMAT = "rsfm-collection-1"
ENTRIES = re.compile(r'"entries"\s*:\s*\[')
DRIVER = re.compile(r"^[A-Za-z][A-Za-z0-9_]+:")
BETWEEN = re.compile(r"[\s,]*")
UNSEEN = "Nobody has looked at it yet. Press 'Look at Them' on the page Imagery."
NEW = {"role": "imagery", "used": True, "date": None, "date_source": "none", "hour_known": False, "month_known": True,
       "problem": "", "note": ""}  # fmt: skip
WRITTEN_AT_ONCE = 100
DATE = ("date", "date_source", "hour_known", "month_known")
Entry = dict[str, Any]


class CollectionError(Exception):
    """The file cannot be used; the sentence says why and what to do."""


class Collection:
    """The entries of a collection, in the order of the file.

    Attributes:
        entries: as in the file, except that paths are absolute. Change them with the methods only.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: list[Entry] = []
        self._texts: list[str] = []
        self._head: dict[str, Any] = {"format": FORMAT, "name": title(str(path))}
        self._stamp = _stamp(path)

    def read(self) -> Iterator[None]:
        """Read the file, an entry a step.

        Raises:
            CollectionError: the file is missing or is not a collection.
        """
        self._stamp = _stamp(self.path)
        try:
            text = self.path.read_text(encoding="utf-8")
            start = ENTRIES.search(text)
            if start is None:
                raise ValueError("it has no entries")
            entries, texts = [], []
            kinds: dict[Any, Any] = {}
            position, decoder = start.end(), json.JSONDecoder()
            while text[position := BETWEEN.match(text, position).end()] != "]":  # type: ignore[union-attr]
                entry, end = decoder.raw_decode(text, position)
                _share_bands(entry, kinds)
                entries.append(_absolute(entry, self.path.parent))
                texts.append(text[position:end])
                position = end
                yield
            head = json.loads(text[: start.end()] + text[position:])
            if head.get("format") != FORMAT:
                raise ValueError(f"its format is {head.get('format')!r}")
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise CollectionError(
                f"\u201c{self.path.name}\u201d is not a collection of this version ({error}). "
                "Make it again on the page Imagery."
            ) from error
        self._head, self.entries, self._texts = {**head, "entries": None}, entries, texts

    def write(self) -> Iterator[None]:
        """Write the file, replacing it as a whole.

        Raises:
            CollectionError: another program wrote it since it was read, or it cannot be written.
        """
        for row, text in enumerate(self._texts):
            if not text:
                self._texts[row] = json.dumps(_relative(self.entries[row], self.path.parent), ensure_ascii=False)
                yield
        partial = self.path.with_name(f"{self.path.name}.partial")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            yield from self._write_partial(partial)
            if _stamp(self.path) != self._stamp:
                partial.unlink()
                raise CollectionError(
                    f"\u201c{self.path.name}\u201d was changed by another program meanwhile and is shown as it is now. "
                    "Repeat your last change."
                )
            os.replace(partial, self.path)
        except OSError as error:
            raise CollectionError(
                f"\u201c{self.path}\u201d cannot be written ({error.strerror}). Save the project in another folder."
            ) from error
        self._stamp = _stamp(self.path)

    def _write_partial(self, partial: Path) -> Iterator[None]:
        head = {name: value for name, value in self._head.items() if name != "entries"}
        with open(partial, "w", encoding="utf-8") as file:
            file.write(f'{json.dumps(head, ensure_ascii=False)[:-1]}, "entries": [\n')
            for row, text in enumerate(self._texts):
                file.write(f"{text},\n" if row + 1 < len(self._texts) else f"{text}\n")
                if row % WRITTEN_AT_ONCE == 0:
                    yield
            file.write("]}\n")

    def change(self, paths: Iterable[str], changes: dict[str, Any]) -> None:
        """Change what is said about some rasters."""
        wanted = set(paths)
        for row, entry in enumerate(self.entries):
            if entry["path"] in wanted:
                self._set(row, {**entry, **changes})

    def add(self, entries: Sequence[Entry]) -> list[str]:
        """Add rasters that nobody has looked at yet, and return the paths of those that are new."""
        known = {entry["path"] for entry in self.entries}
        new = [entry for entry in entries if entry["path"] not in known]
        self.entries += [{**NEW, "problem": UNSEEN, **entry} for entry in new]
        self._texts += [""] * len(new)
        return [entry["path"] for entry in new]

    def remove(self, paths: Iterable[str]) -> list[tuple[int, Entry]]:
        """Take rasters out, and return them with their places."""
        wanted = set(paths)
        gone = [(row, entry) for row, entry in enumerate(self.entries) if entry["path"] in wanted]
        is_kept = [entry["path"] not in wanted for entry in self.entries]
        self.entries, self._texts = list(compress(self.entries, is_kept)), list(compress(self._texts, is_kept))
        return gone

    def restore(self, gone: Iterable[tuple[int, Entry]]) -> None:
        """Put back what was taken out, in the order of its places."""
        entries: list[Entry] = []
        texts: list[str] = []
        taken = 0
        for row, entry in gone:
            until = taken + max(row - len(entries), 0)
            entries += [*self.entries[taken:until], entry]
            texts += [*self._texts[taken:until], ""]
            taken = until
        self.entries, self._texts = entries + self.entries[taken:], texts + self._texts[taken:]

    def merge(self, found: Sequence[Entry], removed: Container[str] = ()) -> Iterator[None]:
        """Take in what the backend found, without touching what the user said and has removed meanwhile."""
        rows = {entry["path"]: row for row, entry in enumerate(self.entries)}
        for entry in found:
            row = rows.get(entry["path"])
            if row is not None:
                self._set(row, _merged(self.entries[row], entry))
            elif entry["path"] not in removed:
                self.entries.append(entry)
                self._texts.append("")
            yield

    def _set(self, row: int, entry: Entry) -> None:
        if entry != self.entries[row]:
            self.entries[row], self._texts[row] = entry, ""


def title(path: str) -> str:
    """Return the name that a collection's file is known by."""
    return Path(path).name[: -len(SUFFIX)]


def is_looked_at(entry: Entry) -> bool:
    """Tell whether the backend has looked at the raster."""
    return bool(entry["problem"] != UNSEEN)


def is_usable(entry: Entry) -> bool:
    """Tell whether the raster is learned from."""
    return bool(entry["used"] and entry["role"] == "imagery" and not entry["problem"])


def _merged(known: Entry, found: Entry) -> Entry:
    """Return what was found, except where the user has said something.

    A date of the table stays whatever was found; one of the layer, which the user gave to QGIS, stays unless the
    raster's own metadata tell it.
    """
    kept: Entry = {"used": known["used"]}
    source = known["date_source"]
    if source == "table" or (source == "layer" and found["date_source"] in {"name", "none", "layer"}):
        kept.update({name: known[name] for name in DATE})
    if not known["problem"]:
        kept["role"] = known["role"]
        if known.get("mask"):
            kept.update(mask=known["mask"], masked=known.get("masked", []))
        numbers = {band["number"] for band in found.get("bands", ())}
        if known.get("bands") and {band["number"] for band in known["bands"]} <= numbers:
            kept["bands"] = known["bands"]
    return {**found, **kept}


def _share_bands(entry: Entry, kinds: dict[Any, Any]) -> None:
    """Keep the bands that many rasters have in common once."""
    bands = entry.get("bands") or []
    key = tuple((band["number"], band["name"], band.get("wavelength_nm")) for band in bands)
    entry["bands"] = kinds.setdefault(key, bands)


def _absolute(entry: Entry, folder: Path) -> Entry:
    """Fill in what is not said, and make the paths absolute; numbers as tuples, which Python's collector can pass."""
    found = {**NEW, **entry, "path": absolute(entry["path"], folder)}
    for name in ("transform", "footprint", "masked"):
        if isinstance(found.get(name), list):
            found[name] = tuple(found[name])
    if found.get("mask"):
        found["mask"] = absolute(found["mask"], folder)
    return found


def _relative(entry: Entry, folder: Path) -> Entry:
    """Name what lies below the collection's folder from there, so that both can be moved together."""
    start = f"{folder}{os.sep}"
    names = [name for name in ("path", "mask") if (entry.get(name) or "").startswith(start)]
    return {**entry, **{name: Path(entry[name][len(start) :]).as_posix() for name in names}} if names else entry


def absolute(path: str, folder: Path) -> str:
    """Make a path absolute; what GDAL opens by a driver's name, such as "NETCDF:...", stays as it is."""
    return path if os.path.isabs(path) or DRIVER.match(path) else os.path.normpath(f"{folder}{os.sep}{path}")


def _stamp(path: Path) -> tuple[int, int]:
    """Tell one state of a file from another; (0, 0) where there is none."""
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_size
